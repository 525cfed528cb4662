"""The run directory of a guard: every check is a cell, the baselines lie beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.guarding.endpoint import ENDPOINT
from harness.guarding.messages import Facts
from harness.guarding.steps import RUNTIME
from harness.history.layout import cell_folder
from harness.history.run_description import (
    ChosenRuntime,
    DescribedCell,
    DescribedScenario,
    RunDescription,
    UsedModel,
    now,
)
from harness.runs.finding import new_run_directory
from harness.runs.growing import GrowingRun, baseline_folder
from harness.runs.plan import machine

WHERE = {ENDPOINT: "behind an endpoint"}
HERE = "in its user's process"

KEPT = 100
"""How many clean checks are kept."""


@dataclass(kw_only=True, eq=False)
class RunDirectory(GrowingRun):
    """Where a guard writes."""

    engine: str
    """The class of the engine."""
    baselines: int = 0

    def next_baseline(self) -> Path:
        """Where the next baseline is written."""
        self.baselines += 1
        return baseline_folder(self.directory, self.baselines)

    def begin_check(self, number: int) -> Path:
        """Where a check is written, which ``run.json`` names from now on."""
        cell = f"guard-check-{number:06d}"
        self.add(cell, DescribedCell(scenario=DescribedScenario(name=cell), arm=self.engine), number=number)
        return cell_folder(self.directory, cell)


def begin(out: Path, facts: Facts) -> RunDirectory:
    """Make the directory, and write what is known when a guard begins.

    Raises:
        StorageError: it cannot be written.
    """
    directory = new_run_directory(out)
    model = facts.told("model_config", "model")
    description = RunDescription(
        format=1,
        run=directory.name,
        sleepwake=__version__,
        started_at=now(),
        finished_at=None,
        interrupted=None,
        command=(f"sleepwake.guard({facts.engine})",),
        runtime=ChosenRuntime(name=RUNTIME, why=f"the engine is {WHERE.get(facts.engine, HERE)}"),
        model=UsedModel(name=None if model is None else str(model), source="the user's own engine"),
        fault=os.environ.get("SLEEPWAKE_FAULT") or None,
        machine=machine(),
        cells={},
    )
    run = RunDirectory(directory=directory, description=description, keep=KEPT, engine=facts.engine)
    run.write()
    return run
