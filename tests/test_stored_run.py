"""Finding a run on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HistoryError
from harness.history.layout import LATEST_LINK, RUN_FILE
from harness.stored_run import find_run

NAME = "2026-11-22T10-00-00"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with one run, which is the latest."""
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / RUN_FILE).write_text("{}", encoding="utf-8")
    (tmp_path / LATEST_LINK).symlink_to(NAME)
    return tmp_path


def test_a_run_is_found_by_path_by_name_and_as_the_latest(out: Path) -> None:
    """All three mean the same directory."""
    for name in (str(out / NAME), NAME, LATEST_LINK, None):
        assert find_run(name, out=out) == out / NAME


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("2026-11-22T10-00-01", f"did you mean '{NAME}'?"),
        ("reports/lates", "did you mean 'latest'?"),
        ("elsewhere", "name a run directory, for example reports/latest"),
    ],
)
def test_the_nearest_run_is_suggested(out: Path, name: str, remedy: str) -> None:
    """As for every other name that is wrong; where none is near, how to name one."""
    with pytest.raises(HistoryError) as refused:
        find_run(name, out=out)
    assert refused.value.remedy == remedy


def test_without_any_run_there_is_nothing_to_suggest(tmp_path: Path) -> None:
    """Also where the folder of runs does not exist yet."""
    with pytest.raises(HistoryError, match="no run here"):
        find_run(None, out=tmp_path / "reports")
