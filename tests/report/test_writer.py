"""Reports on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import StorageError
from harness.report.writer import write_report
from tests.report import examples


def test_all_formats_are_written(tmp_path: Path) -> None:
    """Every format is beside the histories, under the name the documentation gives, and nothing else."""
    written = write_report(tmp_path, examples.clean_report(), html=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "summary.md", "verdict.json"]
    assert written.html is None


def test_writing_again_replaces(tmp_path: Path) -> None:
    """A second judgement of the same run replaces what the first one wrote."""
    write_report(tmp_path, examples.mixed_report(), html=False)
    written = write_report(tmp_path, examples.clean_report(), html=False)
    assert "corrupt" not in written.summary.read_text(encoding="utf-8")


def test_a_file_that_cannot_be_replaced_is_left_whole(tmp_path: Path) -> None:
    """When writing fails there is an error with a remedy, and no half-written file is left behind."""
    (tmp_path / "verdict.json").mkdir()
    with pytest.raises(StorageError, match=r"verdict\.json"):
        write_report(tmp_path, examples.clean_report(), html=False)
    assert [path.name for path in tmp_path.iterdir()] == ["verdict.json"]


def test_a_missing_directory_is_a_storage_error(tmp_path: Path) -> None:
    """The run directory is made by whoever runs; a wrong one is named."""
    with pytest.raises(StorageError, match="nowhere"):
        write_report(tmp_path / "nowhere", examples.clean_report(), html=False)


def test_the_page_is_written_too(tmp_path: Path) -> None:
    """By default all four formats are there."""
    written = write_report(tmp_path, examples.clean_report())
    assert written.html == tmp_path / "report.html"
    assert written.html.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_importing_the_reports_loads_no_drawing_library() -> None:
    """Judging again is quick: what only the page needs is loaded when a page is made."""
    code = "import sys, harness.report; print(*sys.modules)"
    python = [sys.executable, "-c", code]
    loaded = subprocess.run(python, check=True, capture_output=True, text=True).stdout.split()
    assert not {"altair", "vl_convert", "jinja2", "scipy", "torch"} & set(loaded)
