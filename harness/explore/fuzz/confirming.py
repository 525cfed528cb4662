"""Confirms what a search found: fresh engines, a scenario, a script, a bug report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from harness.check.result import CellResult
from harness.drive.executors import LocalExecutor, Work
from harness.drive.recorder import unwatched
from harness.drive.run import run_cells
from harness.explore.fuzz.findings import Signature, failure_in
from harness.explore.fuzz.moves import LEGAL_MOVES, Move
from harness.explore.fuzz.scenario import SETTINGS, SMALLER, WHOLE, Size, scenario_of, write_scenario
from harness.explore.fuzz.search import Minimal
from harness.history.files import storing
from harness.history.run_description import ChosenRuntime
from harness.models.model import Model
from harness.report import bug_report, write_report
from harness.runs.judging import judge_directory
from harness.runs.options import RunOptions
from harness.runs.plan import RunPlan
from harness.runs.record import recorded
from harness.scenario.cells import load_cells
from harness.servers.select import Choice

CONFIRMATIONS = 3
"""Fresh engines that a finding is tried on."""
REPRO_FILE = "repro.sh"


_REPRO = """\
#!/bin/sh
# Reproduces it on a fresh engine: {told}.
# Exit code 1: answers or requests are wrong; 4: the engine died; 0: not reproduced.
# bug-report/ holds the same for whoever has nothing but vLLM, where calls between two answers can show it.
{options}exec "${{SLEEPWAKE:-sleepwake}}" run "$(dirname "$0")/{name}.yaml" "$@"
"""


@dataclass(frozen=True, kw_only=True)
class FuzzOptions:
    """What a user may ask of a search."""

    choice: Choice
    out: Path
    budget_s: float | None
    examples: int | None
    seed: int
    moves: tuple[Move, ...] = LEGAL_MOVES
    known: Path | None = None
    model: str | None = None
    vllm_args: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where the options that were given came from."""


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A finding and how often it showed again on a fresh engine."""

    signature: Signature
    name: str
    calls: tuple[str, ...]
    shown: int | None
    """Of :data:`CONFIRMATIONS`; None where these did not come to their end."""
    reason: str
    directory: Path
    engine: str
    """How it was started, and how many prompts were asked at a time."""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """Tries findings of one search on fresh engines."""

    options: FuzzOptions
    model: Model

    def confirm(self, minimal: Minimal, finding: Confirmed) -> Confirmed:
        """Try a finding on fresh engines; return it with how often it showed.

        The smallest form comes first: one prompt and few tokens, where that shows it as well.

        Raises:
            KeyboardInterrupt: a run was interrupted.
            StorageError: what is written about it cannot be.
        """
        its = finding.signature
        attempt = self._run_fresh(minimal, its, SMALLER, times=1, directory=finding.directory / "smaller")
        size = SMALLER if _shown(attempt, its) else WHOLE
        cells = self._run_fresh(minimal, its, size, times=CONFIRMATIONS, directory=finding.directory)
        _write_repro(finding, self.options)
        _write_reports(finding.directory, its)
        return replace(finding, shown=_shown(cells, its))

    def _run_fresh(
        self, minimal: Minimal, its: Signature, size: Size, *, times: int, directory: Path
    ) -> Path:
        """Run the scenario on fresh engines, as a run of its own; return its directory."""
        scenario = scenario_of(minimal.steps, its, size, SETTINGS[minimal.setting])
        (cell,) = load_cells([write_scenario(scenario, directory)])
        choice = self.options.choice
        plan = RunPlan(
            directory=directory,
            cells=tuple(replace(cell, arm_name=f"fresh-{number}") for number in range(1, times + 1)),
            model=self.model,
            runtime=ChosenRuntime(name=choice.runtime.name, why=choice.reason),
            options=RunOptions(vllm_args=self.options.vllm_args, sources=self.options.sources),
            command=tuple(sys.argv),
        )
        with recorded(plan) as record:
            work = Work(jobs=plan.jobs, watcher_of=lambda job: record.noting(job.cell.id, unwatched))
            whole = anyio.run(run_cells, LocalExecutor(choice.runtime), work)
            record.interrupted = not whole
        if not whole:
            raise KeyboardInterrupt
        return directory


def _write_reports(directory: Path, its: Signature) -> None:
    """The report of the runs on fresh engines, and of one that shows the finding the bug report."""
    judged = judge_directory(directory)
    write_report(directory, judged.report)
    showing = [cell for cell in judged.report.cells if _fails_so(cell.result, its) and cell.recording]
    if showing:
        bug_report.write_bug_report(
            judged.report,
            showing[0],
            run_directory=directory,
            out=directory / "bug-report",
            private=bug_report.Private.of_this_machine(),
        )


def _write_repro(finding: Confirmed, options: FuzzOptions) -> None:
    """The finding as one command, which can do all a sequence may: requests in flight, other weights."""
    path = finding.directory / REPRO_FILE
    text = _REPRO.format(
        told=finding.signature.told,
        name=finding.name,
        options="".join(_defaults(options)),
    )
    with storing(path):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def _defaults(options: FuzzOptions) -> Iterator[str]:
    """Lines that ask for what the search ran on, unless the caller's environment asks for something else."""
    asked = {
        "SLEEPWAKE_RUNTIME": options.choice.runtime.name,
        "SLEEPWAKE_MODEL": options.model or "",
        "SLEEPWAKE_VLLM_ARGS": shlex.join(options.vllm_args),
    }
    for name, value in asked.items():
        if value:
            yield f"{name}=${{{name}:-{shlex.quote(value)}}}; export {name}\n"


def _fails_so(result: CellResult, its: Signature) -> bool:
    failure = failure_in(result)
    return failure == its.failure


def _shown(directory: Path, its: Signature) -> int:
    """How many cells of a run fail as the finding does."""
    return sum(_fails_so(cell, its) for cell in judge_directory(directory).result.cells)
