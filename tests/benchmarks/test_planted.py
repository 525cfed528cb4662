"""The table of faults in the default run: what is kept, what is told, what is asked for."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.planted import HEALTHY, Planted, command, outcome, read, table, write

ROW = Planted(
    fault="lose-weights",
    dtype="float32",
    vllm="0.32.0",
    verdict="corrupt",
    cause="lost weights",
    cell="first-look",
    seconds=70,
)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    """A run more is a line more, whatever order they came in."""
    other = Planted(**{**vars(ROW), "fault": HEALTHY, "dtype": "bfloat16"})
    assert read(tmp_path / "kept.json") == []
    write(tmp_path / "kept.json", [ROW, other])
    assert read(tmp_path / "kept.json") == [other, ROW]
    assert len((tmp_path / "kept.json").read_text().splitlines()) == 4


def test_the_cell_that_decided_is_named() -> None:
    """With its cause; a clean run says how many cells it had."""
    cells = [
        {"verdict": "clean", "cause": None, "scenario": "first-look", "vllm_version": "0.32.0+cpu"},
        {"verdict": "degraded", "cause": "speed", "scenario": "level1", "vllm_version": "0.32.0+cpu"},
        {"verdict": None, "cause": None, "scenario": "level2", "vllm_version": None},
    ]
    degraded = outcome({"verdict": "degraded", "cells": cells}, fault="f", dtype="float32", seconds=9)
    assert degraded.told == "degraded, speed (level1, 9 s)"
    clean = outcome({"verdict": "clean", "cells": cells[:1]}, fault="f", dtype="float32", seconds=9)
    assert clean.told == "clean (1 cell, 9 s)"


def test_what_was_not_run_is_said() -> None:
    """And only what came to its end is counted; a fault that was missed is not noticed."""
    missed = Planted(**{**vars(ROW), "fault": "slow-steps", "verdict": "clean", "cause": None})
    told = "\n".join(table([ROW, missed]))
    assert "| lose-weights | lost weights | corrupt, lost weights (first-look, 70 s) |" in told
    assert "| leak-memory | memory | not run |" in told
    assert "* float32: 1 of 2 noticed, 1 attributed to the right cause." in told
    assert "lose-adapters" in told.splitlines()[-1]


def test_a_fault_gets_the_engine_that_has_what_it_breaks(tmp_path: Path) -> None:
    """A run ends with the first cell that is not clean, and a healthy one asks every cell."""
    words = command("shrink-kv-scales", dtype="bfloat16", out=tmp_path)
    assert "--vllm-arg=fp8" in words
    assert "--exit-first" in words
    assert "--fault" not in command(HEALTHY, dtype="bfloat16", out=tmp_path)
