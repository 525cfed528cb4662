"""Which vLLM releases there are recipes for, and what each installs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

RECIPES = Path(__file__).parent.parent / "recipes"
DOCKERFILE = "Dockerfile"

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the image of one vLLM release is made of.

    Attributes:
        vllm_version: The release.
        torch_version: Its torch, which names the folder its lists lie in.
    """

    vllm_version: str
    torch_version: str

    @property
    def folder(self) -> str:
        """The folder of its lists, below ``RECIPES`` and in the build context."""
        return f"torch-{self.torch_version}"

    @property
    def files(self) -> tuple[str, ...]:
        """Everything it is made of, relative to ``RECIPES``."""
        lists = ("torch", "common", f"vllm-{self.vllm_version}")
        return (DOCKERFILE, *(f"{self.folder}/{name}.txt" for name in lists))

    def pins(self) -> frozenset[tuple[str, str]]:
        """Return (normalised name, version) of every package that it pins."""
        lists = (RECIPES / name for name in self.files if name != DOCKERFILE)
        return frozenset(
            (normalised(name), version)
            for path in lists
            for name, version in _PIN.findall(path.read_text("utf-8"))
        )


def supported_versions() -> tuple[str, ...]:
    """Return the releases there are recipes for, oldest first."""
    return tuple(sorted(_recipes(), key=version_key))


def find_recipe(vllm_version: str) -> Recipe:
    """Return the recipe of a release; a leading ``v`` does not matter.

    Raises:
        UsageError: There is none.
    """
    recipes = _recipes()
    wanted = vllm_version.strip().removeprefix("v")
    if wanted not in recipes:
        known = ", ".join(supported_versions())
        raise UsageError(
            f"there is no CPU image recipe for vLLM {vllm_version}, only for {known}",
            remedy=f"take {_nearest(wanted)}, or name an image of your own with --image",
        )
    return recipes[wanted]


def normalised(package: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def version_key(version: str) -> tuple[int, ...]:
    """Return the numbers in a version, to sort by."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _recipes() -> dict[str, Recipe]:
    return {
        (version := path.stem.removeprefix("vllm-")): Recipe(
            vllm_version=version, torch_version=path.parent.name.removeprefix("torch-")
        )
        for path in RECIPES.glob("torch-*/vllm-*.txt")
    }


def _nearest(version: str) -> str:
    """Name the neighbours of a version among the supported ones: "0.10.1 or 0.10.2"."""
    versions = supported_versions()
    older = [known for known in versions if version_key(known) < version_key(version)]
    newer = [known for known in versions if version_key(known) > version_key(version)]
    return " or ".join([*older[-1:], *newer[:1]])
