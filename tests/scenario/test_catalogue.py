"""The table of reported bugs in ``docs/catalogue.md``, and what it is made from."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.check.result import Cause, CellResult, RunResult, Verdict
from harness.history.layout import RUN_FILE
from harness.report.writer import VERDICT_FILE
from tests.scenario.catalogue import CLASSES, load_catalogue, shipped
from tests.scenario.catalogue_table import PAGE, with_catalogue
from tests.scenario.seen import Sighting, load_seen, newest, sightings_of

WITHOUT_SOURCES = {"doubled_tags.yaml", "selftest.yaml", "request_kinds.yaml"}
"""About the harness, or about what nobody has reported yet."""


def test_the_page_shows_the_table_as_it_is() -> None:
    """Run ``python -m tests.scenario.catalogue_table`` after a change to a scenario or to the catalogue."""
    text = PAGE.read_text(encoding="utf-8")
    assert with_catalogue(text) == text


def test_the_catalogue_is_whole() -> None:
    """Its rows are numbered from 1, and no thread stands in two."""
    entries = load_catalogue()
    assert [entry.row for entry in entries] == list(range(1, 90))
    assert [
        ref for ref, times in Counter(ref for each in entries for ref in each.refs).items() if times > 1
    ] == []


def test_classes_are_called_as_verdicts_call_them() -> None:
    """Every cause a verdict can name is a class, word for word; where it names none there is none."""
    assert {cause.value for cause in Cause} - set(CLASSES) == {Cause.UNKNOWN.value, Cause.INTERMITTENT.value}


def test_every_scenario_says_where_it_went_wrong() -> None:
    """Its sources are threads of the catalogue, each named once."""
    known = {ref for entry in load_catalogue() for ref in entry.refs}
    for file, scenario in shipped().items():
        assert set(scenario.sources) <= known, file
        assert len(set(scenario.sources)) == len(scenario.sources), file
        assert bool(scenario.sources) != (file in WITHOUT_SOURCES), file


def test_what_was_seen_is_kept_once() -> None:
    """The committed file is in order and holds nothing that a newer run has overtaken."""
    seen = load_seen()
    assert newest(seen) == seen


def _store(run: Path, *cells: CellResult, started: datetime, extra_args: tuple[str, ...] = ()) -> Path:
    run.mkdir()
    description = {
        "run": run.name,
        "cells": {},
        "started_at": started.isoformat(),
        "extra_args": extra_args,
        "model": {"name": "a-model"},
    }
    (run / RUN_FILE).write_text(json.dumps(description))
    result = RunResult(run=run.name, verdict=None, exit_code=0, cells=cells)
    (run / VERDICT_FILE).write_text(result.model_dump_json())
    return run


def _cell(verdict: Verdict | None, *, fault: str | None = None, cause: Cause | None = None) -> CellResult:
    return CellResult(
        cell="small.only",
        scenario="small",
        arm="only",
        verdict=verdict,
        cause=cause,
        reason="because",
        vllm_version="0.32.0+cpu",
        runtime="process",
        emulated=("CPU sleep mode",),
        fault=fault,
        error=None if verdict else "ServerBootError",
    )


MORNING, NOON = datetime(2026, 11, 22, 8, tzinfo=UTC), datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_run_tells_what_it_saw(tmp_path: Path) -> None:
    """Release, place, fault, verdict and cause, without folders of the machine it ran on."""
    cell = _cell(Verdict.CORRUPT, fault="/home/someone/faults.py:lose", cause=Cause.LOST_WEIGHTS)
    assert list(sightings_of(_store(tmp_path / "run", cell, started=NOON))) == [
        Sighting(
            cell="small.only",
            vllm="0.32.0",
            runtime="process",
            emulated=("CPU sleep mode",),
            model="a-model",
            fault="faults.py:lose",
            verdict=Verdict.CORRUPT,
            cause=Cause.LOST_WEIGHTS,
            at=NOON,
        )
    ]


@pytest.mark.parametrize(("verdict", "extra_args"), [(None, ()), (Verdict.CLEAN, ("--block-size=64",))])
def test_what_was_not_the_scenario_was_not_seen(
    tmp_path: Path, verdict: Verdict | None, extra_args: tuple[str, ...]
) -> None:
    """A cell that did not finish says nothing, nor do servers with other flags than the scenario's."""
    run = _store(tmp_path / "run", _cell(verdict), started=NOON, extra_args=extra_args)
    assert list(sightings_of(run)) == []


def test_the_newest_counts(tmp_path: Path) -> None:
    """Of two runs of the same cell on the same, the later one stands, in whatever order they are read."""
    early = _store(tmp_path / "early", _cell(Verdict.CLEAN), started=MORNING)
    late = _store(tmp_path / "late", _cell(Verdict.INCONCLUSIVE), started=NOON)
    planted = _store(tmp_path / "planted", _cell(Verdict.CORRUPT, fault="lose-weights"), started=MORNING)
    both = [each for run in (late, planted, early) for each in sightings_of(run)]
    assert [(each.fault, each.verdict) for each in newest(both)] == [
        (None, Verdict.INCONCLUSIVE),
        ("lose-weights", Verdict.CORRUPT),
    ]
