"""A slice of the damaged run directories; the long way is ``make torture``."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from harness.cli import call
from harness.errors import ExitCode
from tests.runs.test_format_1 import STORED
from tests.torture.run_directories import Tally, reading_in, try_one


@pytest.mark.cell
def test_what_reads_a_damaged_run_says_so_in_words(tmp_path: Path) -> None:
    """Whatever bytes, lines, values or files are not as they were: never a traceback, never a hang."""
    chance, tally = random.Random(4), Tally()  # noqa: S311 - no secret
    with reading_in(tmp_path):
        for _ in range(60):
            try_one(chance, tmp_path, tally)
    assert tally.bad == []
    assert {ExitCode.CLEAN, ExitCode.USAGE} <= tally.codes.keys()


@pytest.mark.parametrize("number", ["1e308", "1e999", "NaN", "-1"])
def test_no_time_is_endless(tmp_path: Path, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A moment that cannot be is named with its line."""
    (tmp_path / "run" / "cells" / "a").mkdir(parents=True)
    stored = next((STORED / "clean").glob("cells/*/history.jsonl")).read_text(encoding="utf-8").splitlines()
    stored[1] = stored[1].replace('"t":', f'"t":{number},"_":', 1)
    (tmp_path / "run" / "cells" / "a" / "history.jsonl").write_text("\n".join(stored) + "\n")
    (tmp_path / "run" / "run.json").write_text('{"run": "run", "cells": {"a": {}}}')
    assert call(["check", str(tmp_path / "run")]) == ExitCode.USAGE
    assert "line 2 is not an event of this version" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("run.json", "no run here"),
        ("cells/adapter-and-streams.healthy/history.jsonl", "cannot be read: it is no ordinary file"),
    ],
)
def test_what_is_no_ordinary_file_is_not_read(
    tmp_path: Path, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link to a device would be read for ever, and a pipe waited for: that is said instead."""
    shutil.copytree(STORED / "clean", tmp_path / "run")
    file = tmp_path / "run" / name
    for is_pipe in (False, True):
        file.unlink()
        if is_pipe:
            os.mkfifo(file)
        else:
            file.symlink_to("/dev/zero")
        assert call(["check", str(tmp_path / "run")]) == ExitCode.USAGE
        assert says in capsys.readouterr().err
