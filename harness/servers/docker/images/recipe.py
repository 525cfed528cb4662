"""Which vLLM releases there are recipes for, and what each installs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from harness.errors import UsageError

RECIPES = Path(__file__).parent / "recipes"
DOCKERFILE = "Dockerfile"

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the image of one vLLM release is made of; its torch names the folder its lists lie in."""

    recipes: Path
    vllm_version: str
    torch_version: str

    @property
    def lists(self) -> tuple[str, ...]:
        """Its lists of pinned packages, below the folder of recipes, in the order of installation."""
        names = ("torch", "common", f"vllm-{self.vllm_version}")
        return tuple(f"torch-{self.torch_version}/{name}.txt" for name in names)

    def pins(self) -> frozenset[tuple[NormalizedName, str]]:
        """Return (name, version) of every package that it pins, both normalised and without a local label."""
        texts = ((self.recipes / name).read_text("utf-8") for name in self.lists)
        return frozenset(
            (canonicalize_name(name), Version(version).public)
            for text in texts
            for name, version in _PIN.findall(text)
        )


def supported_versions(recipes: Path = RECIPES) -> tuple[str, ...]:
    """Return the releases there are recipes for, oldest first."""
    return tuple(sorted(_found_in(recipes), key=Version))


def find_recipe(vllm_version: str, *, recipes: Path = RECIPES) -> Recipe:
    """Return the recipe of a release; a leading ``v`` does not matter.

    Raises:
        UsageError: There is none.
    """
    wanted = vllm_version.strip().removeprefix("v")
    found = _found_in(recipes)
    if wanted not in found:
        known = sorted(found, key=Version)
        raise UsageError(
            f"there is no CPU image recipe for vLLM {vllm_version}, only for {', '.join(known)}",
            remedy=f"take {_nearest(wanted, known)}, or name an image of your own with --image",
        )
    return found[wanted]


def _found_in(recipes: Path) -> dict[str, Recipe]:
    found = (
        Recipe(
            recipes=recipes,
            vllm_version=path.stem.removeprefix("vllm-"),
            torch_version=path.parent.name.removeprefix("torch-"),
        )
        for path in recipes.glob("torch-*/vllm-*.txt")
    )
    return {recipe.vllm_version: recipe for recipe in found}


def _nearest(version: str, known: Sequence[str]) -> str:
    """Name the neighbours of a version among sorted ones: ``"0.10.1 or 0.10.2"``."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        return known[-1]
    older = [other for other in known if Version(other) < wanted]
    newer = [other for other in known if Version(other) > wanted]
    return " or ".join([*older[-1:], *newer[:1]])
