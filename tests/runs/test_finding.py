"""Where runs are, and which of them is pinned."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HistoryError
from harness.history.layout import RUN_FILE
from harness.runs.finding import find_run, new_run_directory, pin_run


def made(out: Path) -> Path:
    """A new run directory."""
    directory = new_run_directory(out)
    (directory / RUN_FILE).write_text("{}")
    return directory


def test_a_pinned_run_stays_while_newer_ones_come(tmp_path: Path) -> None:
    """``pinned`` names the same run until another is pinned, also when everything is moved."""
    first = made(tmp_path / "reports")
    pin_run(first, out=tmp_path / "reports")
    second = made(tmp_path / "reports")
    assert find_run("pinned", out=tmp_path / "reports") == first
    assert find_run(None, out=tmp_path / "reports") == second
    moved = (tmp_path / "reports").rename(tmp_path / "moved")
    assert find_run("pinned", out=moved).name == first.name
    pin_run(moved / second.name, out=moved)
    assert find_run("pinned", out=moved).name == second.name


def test_a_run_elsewhere_can_be_pinned(tmp_path: Path) -> None:
    """A baseline may lie in another folder, for example one that a job fetched."""
    kept = made(tmp_path / "kept")
    pin_run(kept, out=tmp_path / "reports")
    assert find_run("pinned", out=tmp_path / "reports") == kept


def test_nothing_is_pinned_at_first(tmp_path: Path) -> None:
    """Who compares with a run that was never pinned is told so."""
    with pytest.raises(HistoryError, match="no run here"):
        find_run("pinned", out=tmp_path)


def test_only_the_owner_reads_a_run(tmp_path: Path) -> None:
    """Prompts and answers are in it."""
    assert new_run_directory(tmp_path).stat().st_mode & 0o777 == 0o700
