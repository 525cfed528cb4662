"""The run directory of a guard: every check is a cell, the baselines lie beside them.

A guard may check for months: of the clean checks only the last ones are kept.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from harness import __version__
from harness.check.noise.budget import budget_of_check
from harness.guarding.messages import Facts
from harness.guarding.steps import RUNTIME
from harness.history.layout import BASELINE_FOLDER, cell_folder
from harness.history.run_description import (
    ChosenRuntime,
    DescribedCell,
    DescribedScenario,
    RunDescription,
    UsedModel,
    write_description,
)
from harness.runs.finding import new_run_directory
from harness.runs.plan import machine

KEPT = 100
"""How many clean checks are kept."""


class RunDirectory:
    """Where a guard writes."""

    def __init__(self, out: Path, facts: Facts) -> None:
        self.path = new_run_directory(out)
        self._facts = facts
        self._cells: dict[str, DescribedCell] = {}
        self._clean: list[str] = []
        self._baselines = 0
        model = facts.told("model_config", "model")
        self._description = RunDescription(
            format=1,
            run=self.path.name,
            sleepwake=__version__,
            started_at=_now(),
            finished_at=None,
            interrupted=None,
            command=(f"sleepwake.guard({facts.engine})",),
            runtime=ChosenRuntime(name=RUNTIME, why="the engine is in its user's process"),
            model=UsedModel(name=None if model is None else str(model), source="the user's own engine"),
            fault=os.environ.get("SLEEPWAKE_FAULT") or None,
            machine=machine(),
            cells={},
        )
        self._write()

    def next_baseline(self) -> Path:
        """Where the next baseline is written."""
        self._baselines += 1
        return self.path / BASELINE_FOLDER.format(number=self._baselines)

    def begin_check(self, number: int) -> Path:
        """Where a check is written, which ``run.json`` names from now on."""
        cell = f"guard-check-{number:06d}"
        self._cells[cell] = DescribedCell(
            scenario=DescribedScenario(name=cell),
            arm=self._facts.engine,
            one_of=budget_of_check(number).cells,
        )
        self._write()
        return cell_folder(self.path, cell)

    def note_clean(self, folder: Path) -> None:
        """Note that a check was clean; older ones make room."""
        self._clean.append(folder.name)
        if len(self._clean) > KEPT:
            oldest = self._clean.pop(0)
            del self._cells[oldest]
            self._write()
            shutil.rmtree(cell_folder(self.path, oldest))

    def finish(self) -> None:
        """Note that the guard is closed."""
        ended = {"finished_at": _now(), "interrupted": False}
        self._description = self._description.model_copy(update=ended)
        self._write()

    def _write(self) -> None:
        write_description(self.path, self._description.model_copy(update={"cells": dict(self._cells)}))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
