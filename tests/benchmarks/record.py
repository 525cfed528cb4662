"""``python -m tests.benchmarks.record``: records real engines, healthy and faulty, for all to rule on.

Every engine is booted once; faults are planted in it and healed while it runs.  What is
recorded already is kept, so an interrupted recording goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio
from cyclopts import App
from pydantic import JsonValue
from rich.console import Console

from harness.drive.job import CellJob
from harness.drive.recorder import Watcher
from harness.drive.run import run_interruptibly
from harness.engine_plugin.faults import FAULTS
from harness.explore.selftest.trials import SWITCHBOARD, run_trials
from harness.history.events import Event
from harness.history.layout import RUN_FILE
from harness.history.run_description import ChosenRuntime
from harness.installation import shipped_scenarios
from harness.models.model import provide_model
from harness.report.progress import Progress
from harness.runs.plan import RunPlan
from harness.runs.record import recorded
from harness.scenario.cells import Cell, load_cells
from harness.scenario.schema import Scenario
from harness.servers.process.runtime import ProcessRuntime

OUT = Path("reports/power")

CYCLE: list[JsonValue] = [{"sleep": {"level": 1}}, {"wake_up": {}}]

app = App(name="record", help_format="plaintext")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One engine to record, and what is asked of it."""

    dtype: str
    concurrency: int
    prefix_caching: bool = True
    faults: bool = True
    """Whether every fault is planted once."""
    healthy: int = 2
    """Healthy transitions, half of them before the faults."""
    null_passes: int = 4
    prompts: int = 16
    evidence: tuple[str, ...] = ("warm", "cold", "scored", "sampled")
    """What is asked after the transition; the baseline asks for a re-hit besides."""
    cycles: int = 3
    with_controls: bool = False

    @property
    def name(self) -> str:
        """Names its folder, for example ``bfloat16-c16``."""
        caching = "" if self.faults else f"-healthy-cache-{'on' if self.prefix_caching else 'off'}"
        return f"{self.dtype}-c{self.concurrency}{caching}"

    @property
    def args(self) -> tuple[str, ...]:
        """The flags of its engine."""
        caching = "--enable-prefix-caching" if self.prefix_caching else "--no-enable-prefix-caching"
        return (f"--dtype={self.dtype}", caching)

    def scenario(self, shipped: Scenario) -> Scenario:
        """The selftest's scenario as it is put to this engine."""
        baseline = (
            "warm",
            "rehit",
            "cold",
            *(each for each in self.evidence if each not in {"warm", "cold"}),
        )
        changed: Mapping[str, JsonValue] = {
            "concurrency": self.concurrency,
            "evidence": [*baseline, "unseen"],
            # A dropped request is waited for; on a healthy engine waiting costs nothing.
            "deadlines": {"answer": 30 if self.faults else 180},
            "prompts": {"corpus": shipped.prompts.corpus, "count": self.prompts},
            "script": [
                {"probe": "baseline"},
                {"null_transition": {"passes": self.null_passes}},
                {"repeat": self.cycles, "steps": CYCLE},
                {"probe": {"name": "after-wake", "evidence": list(self.evidence)}},
            ],
        }
        return Scenario.model_validate({**shipped.model_dump(mode="json"), **changed})


SUBJECTS = (
    Subject(dtype="float32", concurrency=16, null_passes=1, with_controls=True),
    Subject(dtype="bfloat16", concurrency=16, with_controls=True),
    *(
        Subject(
            dtype="bfloat16",
            concurrency=16,
            prefix_caching=caching,
            faults=False,
            healthy=100,
            evidence=("warm",) if caching else ("cold",),
            cycles=1,
        )
        for caching in (True, False)
    ),
    Subject(dtype="float32", concurrency=1, null_passes=1, prompts=4, evidence=("warm",)),
    Subject(dtype="bfloat16", concurrency=1, prompts=6, evidence=("warm",)),
)


@app.default
def record(*names: str, out: Path = OUT, fault: tuple[str, ...] = ()) -> None:
    """Record the engines with these names, all by default; those that are there already are left alone.

    Args:
        names: For example bfloat16-c16.
        out: Holds <engine>/cells/<name>/history.jsonl.
        fault: Plant only this fault. Can be given several times.
    """
    for subject in SUBJECTS:
        directory = out / subject.name
        if (names and subject.name not in names) or _is_whole(directory):
            continue
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
        if not _record(subject, directory, faults=fault):
            return


def _is_whole(directory: Path) -> bool:
    try:
        description = json.loads((directory / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return description["finished_at"] is not None and not description["interrupted"]


def _record(subject: Subject, directory: Path, *, faults: tuple[str, ...]) -> bool:
    """Record one engine; False where that was interrupted."""
    shipped = load_cells([shipped_scenarios() / "selftest.yaml"])[0]
    scenario = subject.scenario(shipped.scenario)
    base = replace(
        shipped,
        scenario=scenario,
        arm=shipped.arm.model_copy(update={"args": subject.args}),
        prompts=shipped.prompts[: subject.prompts],
    )
    trials = list(_trials(subject, base, faults))
    plan = RunPlan(
        directory=directory,
        cells=tuple(cell for cell, _ in trials),
        model=provide_model(None, dtype="float32"),
        runtime=ChosenRuntime(name="process", why="recordings are made without a container"),
        command=tuple(sys.argv),
    )
    shared = replace(plan.job(base), directory=directory / "shared", fault=SWITCHBOARD)
    with Progress(Console(highlight=False), cells=len(trials) + 1) as progress:  # and what they share
        boot = partial(
            run_trials,
            shared,
            ProcessRuntime(),
            [replace(plan.job(cell), fault=planted) for cell, planted in trials],
            with_controls=subject.with_controls,
            watcher_of=lambda job: _watcher(job, progress),
        )
        with recorded(plan) as record:
            whole = anyio.run(run_interruptibly, boot)
            record.interrupted = not whole
    return whole


def _trials(subject: Subject, base: Cell, faults: tuple[str, ...]) -> Iterator[tuple[Cell, str | None]]:
    healthy = [replace(base, arm_name=f"healthy-{number:03}") for number in range(1, subject.healthy + 1)]
    half = len(healthy) // 2
    yield from ((cell, None) for cell in healthy[:half])
    for name, fault in FAULTS.items():
        if subject.faults and not fault.needs and (not faults or name in faults):
            yield replace(base, arm_name=name), name
    yield from ((cell, None) for cell in healthy[half:])


def _watcher(job: CellJob, progress: Progress) -> Watcher:
    def watch(event: Event) -> None:
        progress.show(job.cell.id, event)

    return watch


if __name__ == "__main__":
    app()
