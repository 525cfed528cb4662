"""Counting healthy cells: what is asked of the engine, what is kept, what is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from harness.scenario.loader import load_scenario
from tests.benchmarks.healthy import DEFAULT, Seen, outcome, read, shortened, table, write

COUNTS = Counter({("float32", "first-look", "clean"): 2, ("float32", "first-look", "degraded"): 1})


def test_the_short_scenarios_ask_as_many_at_once(tmp_path: Path) -> None:
    """They are the default ones with their prompts and concurrency; only answers and cycles are fewer."""
    files = list(shortened(tmp_path))
    assert [file.stem for file in files] == list(DEFAULT)
    for file in files:
        short, shipped = (load_scenario(each).scenario for each in (file, Path("scenarios") / file.name))
        assert short.concurrency == shipped.concurrency
        assert short.prompts == shipped.prompts
        assert short.sampling.max_tokens < shipped.sampling.max_tokens


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    """Counts survive the file; where there is none, nothing was counted."""
    assert read(tmp_path / "kept.json") == Counter()
    write(tmp_path / "kept.json", COUNTS)
    assert read(tmp_path / "kept.json") == COUNTS


def test_a_false_alarm_is_either_bad_verdict() -> None:
    """Its rate has an exact interval; every number format has a sum."""
    rows = list(table(COUNTS))
    assert rows[-1].startswith("| float32 | all | 3 | 2 | 0 | 1/3 (0.8% to 90.6%) |")


def test_the_reason_is_told_where_a_cell_is_not_clean() -> None:
    """A clean cell needs none."""
    cell = {"scenario": "first-look", "verdict": "clean", "reason": "no answer changed"}
    assert outcome({"cells": [cell]}) == Seen(scenario="first-look", verdict="clean", why="")
    doubtful = {**cell, "verdict": "inconclusive", "reason": "others used the machine"}
    assert outcome({"cells": [doubtful]}).why == "others used the machine"
