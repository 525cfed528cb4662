"""The runs on disk over time."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.report.verdict_json import verdict_json
from harness.runs.listing import PastRun, past_runs
from tests.report import examples


def written(folder: Path, name: str, *, verdict: str | None = None, **changes: object) -> Path:
    """A run directory as far as listing it reads one."""
    run = folder / name
    run.mkdir(parents=True)
    description = {
        "run": name,
        "started_at": "2026-11-20T10:00:00+00:00",
        "finished_at": "2026-11-20T11:00:00+00:00",
        "interrupted": False,
        "runtime": {"name": "docker"},
        "servers": {"a": {"vllm_version": "0.10.0"}, "b": {"vllm_version": "0.10.0"}},
        "cells": {"a": {}, "b": {}},
    }
    (run / "run.json").write_text(json.dumps({**description, **changes}))
    if verdict is not None:
        (run / "verdict.json").write_text(verdict)
    return run


def listed(folder: Path) -> dict[str, PastRun]:
    """Every run by its name."""
    return {run.name: run for run in past_runs(folder)}


@pytest.fixture
def verdict() -> str:
    """A corrupt and a clean cell."""
    cells = (examples.corrupt_cell(), examples.clean_cell())
    return verdict_json(
        examples.result_of(*cells).model_copy(update={"exit_code": ExitCode.CORRUPT_OR_DEGRADED})
    )


def test_a_finished_run_is_told_in_full(tmp_path: Path, verdict: str) -> None:
    """Runtime, releases, cells by verdict, and the verdict of the whole."""
    written(tmp_path, "one", verdict=verdict)
    run = listed(tmp_path)["one"]
    assert (run.runtime, run.vllm, run.cells, run.outcome) == (
        "docker",
        "0.10.0",
        "1 corrupt, 1 clean",
        "corrupt",
    )


def test_the_newest_stands_last(tmp_path: Path) -> None:
    """Order is by the time a run started, whatever it is called; `latest` is not a run of its own."""
    written(tmp_path, "b", started_at="2026-11-20T10:00:00+00:00")
    written(tmp_path, "a", started_at="2026-11-20T13:00:00+02:00")
    (tmp_path / "latest").symlink_to("a", target_is_directory=True)
    (tmp_path / "notes").mkdir()
    assert list(listed(tmp_path)) == ["b", "a"]


def test_what_did_not_end_is_listed_as_such(tmp_path: Path, verdict: str) -> None:
    """Interrupted, died, still running, never judged: each says so."""
    written(tmp_path, "interrupted", verdict=verdict, interrupted=True)
    written(tmp_path, "died", finished_at=None)
    going = os.open(written(tmp_path, "running", finished_at=None), os.O_RDONLY)
    fcntl.flock(going, fcntl.LOCK_EX)
    try:
        outcomes = {name: run.outcome for name, run in listed(tmp_path).items()}
    finally:
        os.close(going)
    assert outcomes == {
        "interrupted": "corrupt, interrupted",
        "died": "not judged, unfinished",
        "running": "running",
    }


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"run": "x", "cells": 3}', "\x00", '{"run": 1, "cells": {}}']
)
def test_a_damaged_run_is_listed_and_breaks_nothing(tmp_path: Path, verdict: str, content: str) -> None:
    """Whatever ``run.json`` holds, the run has its line and so has its neighbour."""
    written(tmp_path, "good", verdict=verdict)
    (written(tmp_path, "bad") / "run.json").write_text(content)
    runs = listed(tmp_path)
    assert runs["good"].outcome == "corrupt"
    assert runs["bad"].outcome.startswith(("damaged: run.json", "not judged"))


def test_an_empty_directory_and_a_damaged_verdict_are_named(tmp_path: Path) -> None:
    """A harness that died at once leaves an empty directory; an unreadable verdict can be made again."""
    (tmp_path / "2026-11-20T10-00-00-2").mkdir()
    written(tmp_path, "bad", verdict="{}")
    runs = listed(tmp_path)
    assert runs["2026-11-20T10-00-00-2"].outcome.startswith("damaged: run.json cannot be read")
    assert runs["bad"].outcome.startswith("damaged: verdict.json cannot be read")


def test_no_folder_is_no_run(tmp_path: Path) -> None:
    """Before the first run there is nothing to list."""
    assert past_runs(tmp_path / "missing") == []
