"""The steps of the benchmark ``time_to_verdict``: what each measures on the engine that is installed here."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import anyio
import psutil
from rich.console import Console

from harness import workflow
from harness.drive.job import CellJob
from harness.history.recording import Recording
from harness.models.model import provide_model
from harness.report.progress import Progress
from harness.runs.judging import judge_directory
from harness.runs.options import RunOptions
from harness.scenario.cells import Cell
from harness.scenario.script import flat_steps
from harness.scenario.steps.lifecycle import Sleep
from harness.servers.base import Server
from harness.servers.process.runtime import ProcessRuntime
from tests.benchmarks import overhead, procedures

AT_ONCE = (16, 24, 32, 64)
"""Requests in flight at which the engine's peak throughput is looked for."""
FAULT = "keep-prefix-cache"
"""The founding bug."""

_Ask = Callable[[Server, str], Awaitable[procedures.Outcome]]
"""Follows a procedure, given the server and its model's name."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which cells are measured, and where to."""

    out: Path
    expression: str | None = None

    @cached_property
    def options(self) -> RunOptions:
        """The run that is measured: the default scenarios, engines as processes."""
        return RunOptions(runtime="process", expression=self.expression, out=self.out / "runs")

    @cached_property
    def cells(self) -> list[Cell]:
        """Its cells."""
        return workflow.load(self.options)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to measure; ``subject`` is the cell or the level where there are several."""

    kind: str
    subject: str = ""
    out: Path

    @property
    def name(self) -> str:
        """Names its file."""
        return f"{self.kind}-{self.subject}" if self.subject else self.kind

    @property
    def file(self) -> Path:
        """Where its measurement is kept."""
        return self.out / f"{self.name}.json"


def steps_of(wanted: Wanted) -> Iterator[Step]:
    """Every step, the quickest to tell something first."""
    for kind in ("ours", "limit", "bug", "overhead"):
        yield Step(kind=kind, out=wanted.out)
    for level in ("level-1", "level-2"):
        yield Step(kind="vllm", subject=level, out=wanted.out)
    for cell in wanted.cells:
        yield Step(kind="naive", subject=cell.id, out=wanted.out)


def measure_ours(_step: Step, wanted: Wanted) -> Mapping[str, object]:
    """Run the default scenarios as ``sleepwake run`` does; the clock starts with this process."""
    directory = _run(wanted.options, wanted.cells)
    seconds = time.time() - psutil.Process().create_time()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    judged = judge_directory(directory)
    recordings = list(judged.recordings.values())
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        "verdicts": {cell.cell: cell.verdict for cell in judged.result.cells},
        "milliseconds": judged.result.milliseconds.model_dump(),
        "boot_seconds": sum(each.time_spent.boot for each in recordings) / 1000,
        "answers": sum(len(each.answers) for recording in recordings for each in recording.passes),
        "tokens": sum(map(_tokens, recordings)),
    }


def _run(options: RunOptions, cells: list[Cell]) -> Path:
    with Progress(Console(highlight=False), cells=len(cells)) as progress:
        finished = workflow.run(options, cells, workflow.choose(options), progress=progress)
    if not finished.whole:
        raise KeyboardInterrupt  # a part of a run is no measurement
    return finished.directory


def _tokens(recording: Recording) -> int:
    return sum(answer.completion_tokens or 0 for each in recording.passes for answer in each.answers.values())


def measure_bug(_step: Step, wanted: Wanted) -> Mapping[str, object]:
    """Plant the founding bug in the first cell of level 1: how long after its server is ready is it known?"""
    options = RunOptions(runtime="process", fault=FAULT, out=wanted.out / "runs")
    cell = next(cell for cell in workflow.load(options) if _level(cell) == 1)
    judged = judge_directory(_run(options, [cell]))
    result = judged.result.cells[0]
    spent = result.milliseconds
    return {
        "cell": cell.id,
        "verdict": result.verdict,
        "cause": result.cause,
        "seconds_after_ready": (spent.whole - spent.boot - spent.shutdown) / 1000,
        "milliseconds": spent.model_dump(),
    }


def _level(cell: Cell) -> int:
    return next(step.sleep.level for step in flat_steps(cell.scenario.script) if isinstance(step, Sleep))


def measure_naive(step: Step, wanted: Wanted) -> Mapping[str, object]:
    """A server of its own for the cell, one prompt at a time, exact comparison."""
    cell = next(cell for cell in wanted.cells if cell.id == step.subject)

    async def ask(server: Server, model: str) -> procedures.Outcome:
        return await procedures.naive(
            server.base_url,
            model=model,
            script=cell.scenario.script,
            prompts=[prompt.text for prompt in cell.prompts],
            max_tokens=cell.scenario.sampling.max_tokens,
        )

    return _on_a_server(step, cell, ask)


def measure_vllm(step: Step, wanted: Wanted) -> Mapping[str, object]:
    """Follow vLLM's own test of that level on the first cell's engine."""

    async def ask(server: Server, model: str) -> procedures.Outcome:
        return await procedures.vllms_own_test(
            server.base_url, model=model, level=int(step.subject.removeprefix("level-"))
        )

    return _on_a_server(step, wanted.cells[0], ask)


def measure_limit(step: Step, wanted: Wanted) -> Mapping[str, object]:
    """The engine's peak throughput on the same prompts, as long answers as any cell asks for."""
    cell = max(wanted.cells, key=lambda cell: len(cell.prompts) * cell.scenario.sampling.max_tokens)

    async def ask() -> Mapping[str, object]:
        async with _server(step, cell) as (server, model, boot_seconds):
            rates = await procedures.peak_throughput(
                server.base_url,
                model=model,
                prompts=[prompt.text for prompt in cell.prompts],
                max_tokens=cell.scenario.sampling.max_tokens,
                at_once=AT_ONCE,
            )
        return {
            "boot_seconds": boot_seconds,
            "tokens_per_second": {str(number): rate for number, rate in rates.items()},
        }

    return anyio.run(ask)


def measure_overhead(_step: Step, _wanted: Wanted) -> Mapping[str, object]:
    """The harness' own cost with 100 and with 10,000 answers, against a fake server."""
    sizes = [overhead.measure(prompts=prompts, cycles=cycles) for prompts, cycles in overhead.SIZES]
    return {"cells": [asdict(size) for size in sizes]}


STEPS: Mapping[str, Callable[[Step, Wanted], Mapping[str, object]]] = {
    "ours": measure_ours,
    "limit": measure_limit,
    "bug": measure_bug,
    "overhead": measure_overhead,
    "naive": measure_naive,
    "vllm": measure_vllm,
}


def _on_a_server(step: Step, cell: Cell, ask: _Ask) -> Mapping[str, object]:
    """Boot the cell's server, follow a procedure and stop the server again; all of it counts."""

    async def follow() -> Mapping[str, object]:
        began = time.monotonic()
        async with _server(step, cell) as (server, model, boot_seconds):
            outcome = await ask(server, model)
        whole = time.monotonic() - began
        return {**asdict(outcome), "cell": cell.id, "boot_seconds": boot_seconds, "whole_seconds": whole}

    return anyio.run(follow)


@asynccontextmanager
async def _server(step: Step, cell: Cell) -> AsyncIterator[tuple[Server, str, float]]:
    """The cell's server as sleepwake would start it, its model's name and how long it took to boot."""
    model = provide_model(None, dtype="float32")
    job = CellJob(cell=cell, run_id=step.name, directory=step.out / "servers" / step.name, model=model)
    job.directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    async with ProcessRuntime().start(job.spec) as server:
        yield server, model.served_name, time.monotonic() - began
