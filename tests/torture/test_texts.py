"""A slice of the hostile texts; the long way is ``make torture``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.texts import CANARY, PLACES, TEXTS, Place, wrong


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_text_is_no_command(tmp_path: Path, place: Place) -> None:
    """What is written calls its programs with the text, and no shell does what the text says."""
    assert list(wrong(place, TEXTS[0], tmp_path)) == []


def test_what_a_shell_does_is_noticed(tmp_path: Path) -> None:
    """A part that could not fail would prove nothing."""

    def careless(text: str, folder: Path) -> Iterator[str]:
        subprocess.run(["/bin/sh", "-c", f"echo {text}"], cwd=folder, check=True, capture_output=True)
        yield from ()

    assert list(wrong(careless, f"$(touch {CANARY})", tmp_path)) == ["a shell did what the text says"]
