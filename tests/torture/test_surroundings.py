"""A slice of the surroundings; the long way is ``make torture``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.surroundings import SURROUNDINGS, Surrounding, wrong

pytestmark = pytest.mark.cell


@pytest.mark.parametrize(
    "surrounding",
    [
        each
        for each in SURROUNDINGS
        if each.name in {"files of at most 20 KiB", "all standard streams closed"}
    ],
    ids=lambda each: each.name,
)
def test_a_run_that_lacks_something_ends_in_order(tmp_path: Path, surrounding: Surrounding) -> None:
    """In words or with its verdict; what it recorded is readable."""
    assert list(wrong(surrounding, tmp_path)) == []
