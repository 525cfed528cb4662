"""From options to a finished run: load the scenarios, choose a runtime, provide the model, run the cells."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

import anyio
from pydantic import JsonValue, TypeAdapter

from harness import __version__
from harness.check import judge
from harness.check.handover import judge_handover
from harness.check.result import CellResult, Verdict
from harness.check.verdict import decided, noise_is_known
from harness.drive.cell import CellJob, EarlyLooks
from harness.drive.executors import Executor, LocalExecutor
from harness.drive.faults import require_fault
from harness.drive.needs import require_variants
from harness.drive.recorder import Watcher
from harness.drive.run import run_cells
from harness.drive.run_directory import RunPlan, new_run_directory
from harness.drive.sharing import Judges, SeenAgain
from harness.errors import UsageError
from harness.extras import require
from harness.history.events import CellFailed, CellFinished, Event, ServerLeftDamaged
from harness.history.recording import load_recording
from harness.installation import shipped_scenarios
from harness.models.model import Model, may_read_pictures, provide_model
from harness.option_sources import is_environment
from harness.redaction import without_secret_flags
from harness.report.progress import Progress
from harness.scenario.cells import Cell, load_cells, select_cells
from harness.scenario.shard import Shard
from harness.servers.base import Runtime
from harness.servers.process.runtime import installed_vllm
from harness.servers.select import Choice, choose_runtime
from harness.stored_run import REPORTS, judge_directory


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user may ask of a run."""

    paths: tuple[Path, ...] = ()
    arms: tuple[str, ...] = ()
    expression: str | None = None
    runtime: str = "auto"
    vllm: str | None = None
    image: str | None = None
    endpoint: str | None = None
    model: str | None = None
    fault: str | None = None
    shard: str | None = None
    thorough: bool = False
    isolate: bool = False
    vllm_args: tuple[str, ...] = ()
    out: Path = REPORTS
    keep_servers: bool = False
    executor: str = "local"
    address: str | None = None
    resources: tuple[str, ...] = ()
    """What a cell takes of a node of a cluster, each as ``NAME=AMOUNT``."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where the options that were given came from, by field."""


OPTIONS = TypeAdapter(RunOptions)
"""Options as JSON and back."""

EXECUTORS = ("local", "ray")

OF_ONE_CALL = frozenset({"out", "keep_servers", "executor", "address", "resources", "sources"})
"""Options that change nothing about what is run: a run that is carried on may have others."""


def without_environment(options: RunOptions) -> RunOptions:
    """What was asked for on the command line: a run that is carried on has the rest already."""
    ambient = {name for name, source in options.sources.items() if is_environment(source)} - OF_ONE_CALL
    kept = [each.name for each in fields(RunOptions) if each.name not in ambient]
    return RunOptions(**{name: getattr(options, name) for name in kept})


def plan_cells(options: RunOptions) -> list[Cell]:
    """Return the cells that ``options`` ask for.

    Raises:
        ScenarioError: a scenario file is wrong.
        UsageError: an arm, an expression, a fault or a shard is.
    """
    paths = options.paths or (shipped_scenarios(),)
    cells = load_cells(paths, only_default=not options.paths)
    if options.fault is not None:
        require_fault(options.fault)
    selected = select_cells(cells, arms=options.arms, expression=options.expression)
    return selected if options.shard is None else Shard.parse(options.shard).select(selected)


def choose(options: RunOptions) -> Choice:
    """Choose the runtime.

    Raises:
        UsageError: the options contradict each other.
        RuntimeUnavailableError: the machine cannot run what was asked for.
    """
    return choose_runtime(
        runtime=options.runtime,
        vllm=options.vllm,
        image=options.image,
        endpoint=options.endpoint,
        keep_servers=options.keep_servers,
    )


_REMEDIES = {
    "gpu": "run it where vLLM has a GPU (see `sleepwake doctor`), or against a server with --endpoint",
    "pictures": "name another model, or a server with --endpoint",
    "fault": "plant one, or let `sleepwake selftest` plant one after the other",
}
"""What to do, by what a scenario requires."""


def obstacle(cell: Cell, runtime: Runtime, options: RunOptions) -> str | None:
    """Why ``runtime`` cannot run ``cell`` as asked for; None where nothing is known against it."""
    match cell.scenario.requires:
        case "gpu" if runtime.engine == "cpu":
            return "needs a GPU, and the engine here computes on a CPU"
        case "pictures" if runtime.name != "attached" and not may_read_pictures(options.model):
            return "needs a model that reads pictures: name one with --model"
        case "fault" if options.fault is None:
            return "needs a planted fault: name one with --fault"
    return None


def fitting(cells: Sequence[Cell], runtime: Runtime, options: RunOptions) -> tuple[list[Cell], str | None]:
    """Return the cells that ``runtime`` can run as asked for, and one line about those left out.

    Raises:
        UsageError: none can be run.
    """
    obstacles = {cell.id: reason for cell in cells if (reason := obstacle(cell, runtime, options))}
    left_out = "; ".join(f"{name} {reason}" for name, reason in obstacles.items())
    if cells and len(obstacles) == len(cells):
        remedies = dict.fromkeys(_REMEDIES[need] for cell in cells if (need := cell.scenario.requires))
        raise UsageError(f"no cell can run: {left_out}", remedy="; ".join(remedies))
    kept = [cell for cell in cells if cell.id not in obstacles]
    return kept, f"left out: {left_out}" if left_out else None


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Where a run is, and whether it came to its end without being interrupted."""

    directory: Path
    whole: bool


def run(
    options: RunOptions,
    cells: Sequence[Cell],
    choice: Choice,
    *,
    progress: Progress,
    resume_in: Path | None = None,
) -> FinishedRun:
    """Run ``cells`` one after the other; leftovers of earlier runs are removed first.

    Args:
        options: What was asked for.
        cells: The cells to run.
        choice: The runtime.
        progress: Is shown what happens.
        resume_in: The directory of the run that is taken up again; a new one without it.

    Raises:
        UsageError: another harness is at work in the run that is to be taken up.
        ModelError: the model cannot be provided.
        StorageError: the run directory cannot be written.
    """
    asked_at = time.monotonic()
    resources = _resources(options)
    for sentence in choice.runtime.sweep():
        progress.note(f"cleaned up: {sentence}")
    model = _model(options, cells, choice)
    with _executor(options, cells, choice, model=model, resources=resources, progress=progress) as executor:
        directory = resume_in or new_run_directory(options.out)
        plan = replace(
            _plan(options, cells, choice, model=model, directory=directory),
            resumes=resume_in is not None,
            asked_at=asked_at,
            **_shard(options, resumes=resume_in is not None),
        )
        whole = anyio.run(
            lambda: run_cells(
                plan,
                executor,
                watcher_of=lambda job: _watcher(job, progress),
                looks=EarlyLooks(knows_noise=knows_noise)
                if options.thorough
                else EarlyLooks(is_decided=_is_decided, knows_noise=knows_noise),
                sharing=None if options.isolate else Judges(is_clean=_is_clean, sees_again=_sees_again),
            )
        )
    return FinishedRun(directory=plan.directory, whole=whole)


@contextmanager
def _executor(
    options: RunOptions,
    cells: Sequence[Cell],
    choice: Choice,
    *,
    model: Model,
    resources: Mapping[str, float],
    progress: Progress,
) -> Iterator[Executor]:
    """Where the cells run; all that can be known to be missing there is found out before any does."""
    if options.executor == "local":
        yield LocalExecutor(choice.runtime)
        return
    from harness.drive.ray_executor import RayExecutor, connected
    from harness.drive.ray_node import Setting

    fault = require_fault(options.fault) if options.fault else ""
    setting = Setting(
        version=__version__,
        model=model,
        model_reference=None if options.model is None else model.location,
        fault_file=Path(fault.rpartition(":")[0]) if ".py:" in fault else None,
        runtime_of=partial(
            _runtime_there,
            runtime=choice.runtime.name,
            vllm=options.vllm or (None if options.image else installed_vllm()),
            image=options.image,
        ),
    )
    with connected(options.address or "auto"):
        executor = RayExecutor(
            setting=setting, engine=choice.runtime.engine, resources=resources, tell=progress.note
        )
        planned = _plan(options, cells, choice, model=model, directory=options.out)
        executor.require_ready([planned.job(cell) for cell in cells])
        progress.cells_interleave()
        yield executor


def _runtime_there(*, runtime: str, vllm: str | None, image: str | None) -> Runtime:
    """The runtime of the node this is called on, of the same kind and with the same vLLM as here."""
    return choose_runtime(runtime=runtime, vllm=vllm, image=image).runtime


def _resources(options: RunOptions) -> dict[str, float]:
    """Each ``NAME=AMOUNT`` that was asked for.

    Raises:
        UsageError: one is malformed, or options contradict each other.
    """
    if options.executor not in EXECUTORS:
        raise UsageError(
            f"there is no executor {options.executor!r}", remedy=f"one of {', '.join(EXECUTORS)}"
        )
    if options.executor == "local":
        if options.address is not None or options.resources:
            raise UsageError("--address and --resource are about a cluster", remedy="add --executor ray")
        return {}
    if options.endpoint is not None or options.keep_servers:
        raise UsageError(
            "a cluster's nodes start servers of their own, and end them",
            remedy="leave --endpoint and --keep-servers out",
        )
    require("ray", for_what="--executor ray")
    return dict(map(_resource, options.resources))


def _resource(word: str) -> tuple[str, float]:
    name, _, amount = word.partition("=")
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not name or not 0 <= value < math.inf:
        raise UsageError(f"--resource: cannot understand {word!r}", remedy="for example --resource CPU=4")
    return name, value


class _ShardOfPlan(TypedDict, total=False):
    shard: Shard
    matrix: tuple[str, ...]


def _shard(options: RunOptions, *, resumes: bool) -> _ShardOfPlan:
    """Which shard of which matrix is going to be run; a run that is taken up has it written down."""
    if options.shard is None or resumes:
        return {}
    matrix = plan_cells(replace(options, shard=None))
    return {"shard": Shard.parse(options.shard), "matrix": tuple(cell.id for cell in matrix)}


THE_SERVERS_OWN = Model(
    location="",
    folder=None,
    served_name="",
    dtype="auto",
    checksum=None,
    source="whatever the attached server serves",
    bytes_on_disk=None,
)
"""Stands for the model of a server that somebody else started."""


def _model(options: RunOptions, cells: Sequence[Cell], choice: Choice) -> Model:
    attached = choice.runtime.name == "attached" and options.model is None
    model = THE_SERVERS_OWN if attached else provide_model(options.model, dtype="float32")
    require_variants(cells, model)
    return model


def _plan(
    options: RunOptions, cells: Sequence[Cell], choice: Choice, *, model: Model, directory: Path
) -> RunPlan:
    return RunPlan(
        run_id=directory.name,
        directory=directory,
        cells=tuple(cells),
        model=model,
        runtime_name=choice.runtime.name,
        runtime_reason=choice.reason,
        fault=require_fault(options.fault) if options.fault else None,
        command=tuple(sys.argv),
        extra_args=options.vllm_args,
        options=_stored(options),
        sources=_sources(options),
    )


def _stored(options: RunOptions) -> dict[str, JsonValue]:
    """The options as ``run.json`` keeps them, for ``--resume``; secrets are not kept."""
    stored: dict[str, JsonValue] = OPTIONS.dump_python(options, mode="json", exclude=set(OF_ONE_CALL))
    return {**stored, "vllm_args": [*without_secret_flags(options.vllm_args)]}


def _sources(options: RunOptions) -> dict[str, str]:
    """Where every option's value came from, for ``run.json``."""
    return {
        option.name: options.sources.get(option.name) or ("default" if is_default else "command line")
        for option in fields(RunOptions)
        if option.name != "sources"
        for is_default in [getattr(options, option.name) == option.default]
    }


def _is_decided(cell_directory: Path) -> bool:
    return decided(load_recording(cell_directory))


def _is_clean(cell_directory: Path) -> bool:
    """Whether the cell would be clean if its script has come to its end."""
    recording = replace(load_recording(cell_directory), finished=True)
    return judge(recording).verdict is Verdict.CLEAN


def _sees_again(fresh: Path, later: Path) -> SeenAgain:
    """What the first answers of a later cell say of a server that the first cell found fresh."""
    seen = judge_handover(load_recording(fresh), load_recording(later))
    return SeenAgain(whole=seen.whole, damaged=seen.damaged, because=seen.because)


def knows_noise(cell_directory: Path) -> bool:
    """Whether what is recorded so far tells how much answers differ by themselves."""
    return noise_is_known(load_recording(cell_directory))


def _watcher(job: CellJob, progress: Progress) -> Watcher:
    """Show every event; when the cell is over, judge its recording and show the verdict.

    A cell that begins again has none yet; one whose server turns out to be damaged has another.
    """

    def watch(event: Event) -> None:
        progress.show(job.cell.id, event)
        if (isinstance(event, CellFailed) and not event.again) or isinstance(
            event, CellFinished | ServerLeftDamaged
        ):
            progress.conclude(judge(load_recording(job.directory)))

    return watch


def commands(options: RunOptions, cells: Sequence[Cell], choice: Choice) -> Iterator[tuple[str, str]]:
    """Yield every cell's id with the exact command that would start its server; nothing is started."""
    plan = _plan(options, cells, choice, model=_model(options, cells, choice), directory=options.out)
    for cell in cells:
        yield cell.id, choice.runtime.command(plan.job(cell).spec)


def run_one(options: RunOptions, cell: Cell, choice: Choice, *, progress: Progress) -> CellResult:
    """Run a single cell and judge it; its run directory holds what was recorded."""
    finished = run(options, [cell], choice, progress=progress)
    return judge_directory(finished.directory).result.cells[0]
