"""Runs on disk: finding one, and what its report takes from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.check.noise.budget import ErrorBudget
from harness.errors import HistoryError
from harness.history.layout import HISTORY_FILE, LATEST_LINK, RUN_FILE, SERVER_LOG, cell_folder
from harness.history.run_description import DescribedCell, DescribedShard, RunDescription
from harness.history.store import HistoryWriter
from harness.runs.finding import find_run
from harness.runs.judging import budget_of, judge_directory
from tests.report import examples

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


def test_cells_that_shared_a_server_show_the_same_log(tmp_path: Path) -> None:
    """It lies in the folder of the cell that booted it."""
    (tmp_path / RUN_FILE).write_text(json.dumps({"run": NAME, "cells": {"s.one": {}, "s.two": {}}}))
    ready = examples.recording().server
    assert ready
    for arm, shared_with in (("one", ()), ("two", ("s.one",))):
        with HistoryWriter(cell_folder(tmp_path, f"s.{arm}") / HISTORY_FILE) as history:
            history.write(examples.started("s", arm))
            history.write(ready.model_copy(update={"shared_with": shared_with}))
    (cell_folder(tmp_path, "s.one") / SERVER_LOG).write_text("INFO started\n")
    assert [cell.server_log for cell in judge_directory(tmp_path).report.cells] == ["INFO started"] * 2


def test_the_error_rate_is_split_over_the_cells_that_were_planned() -> None:
    """Cells that never ran count, and a shard's are judged as those of the merged run will be."""
    cells = {f"s.{arm}": DescribedCell() for arm in ("one", "two", "three")}
    run = RunDescription(run=NAME, cells=cells)
    assert budget_of(run) == ErrorBudget(cells=3)
    shard = DescribedShard(index=1, of=4, matrix=tuple(f"s.{arm}" for arm in range(12)))
    assert budget_of(run.model_copy(update={"shard": shard})) == ErrorBudget(cells=12)
    assert budget_of(RunDescription(run=NAME, cells={})) == ErrorBudget(cells=1)


def test_a_history_that_is_gone_is_told_from_a_cell_that_never_ran(tmp_path: Path) -> None:
    """``run.json`` knows how each history ended: one that is missing was there."""
    run = {"run": NAME, "cells": {"s.lost": {}, "s.never": {}}, "histories": {"s.lost": "0" * 16}}
    (tmp_path / RUN_FILE).write_text(json.dumps(run))
    lost, never = judge_directory(tmp_path).result.cells
    assert (lost.verdict, never.verdict) == (None, None)
    assert lost.error == "it was run, and history.jsonl is not in its folder any more"
    assert never.error == "the run ended before this cell began"
