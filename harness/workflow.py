"""From options to a finished run, in plain steps: load, choose, fit, plan, run, judge."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio

from harness.check import judge
from harness.check.noise.budget import ErrorBudget
from harness.check.result import Verdict
from harness.drive.cell import EarlyLooks
from harness.drive.cluster import Cluster, asked_cluster, spread_over
from harness.drive.executors import Executor, LocalExecutor, Work
from harness.drive.guest.announcing import announcement, require_few_sleeps
from harness.drive.guest.asking import require_fit
from harness.drive.guest.estimating import tokens_asked, tokens_per_second
from harness.drive.guest.giving_back import give_back_to
from harness.drive.guest.owed import Ledger
from harness.drive.guest.serving import Served, served
from harness.drive.job import CellJob
from harness.drive.needs import require_variants
from harness.drive.recorder import Watcher
from harness.drive.run import run_cells
from harness.drive.sharing import Judges
from harness.errors import RuntimeUnavailableError, UsageError
from harness.fitting import fit, refuse_faults
from harness.history.events import CellFailed, CellFinished, Event, ServerLeftDamaged
from harness.history.recording import load_recording
from harness.history.run_description import ChosenRuntime, DescribedShard, read_description
from harness.installation import shipped_names, shipped_scenarios
from harness.models.model import THE_SERVERS_OWN, names_folder, provide_model
from harness.report.progress import Progress
from harness.runs.finding import new_run_directory
from harness.runs.judging import budget_of
from harness.runs.looks import is_decided, knows_noise, sees_again, would_be_clean
from harness.runs.options import RunOptions
from harness.runs.plan import RunPlan
from harness.runs.record import RunRecord, recorded
from harness.scenario.cells import Cell, load_cells, select_cells
from harness.scenario.shard import Shard
from harness.servers.attached import base_url_of
from harness.servers.select import Choice, Wanted, check_options, choose_runtime
from harness.vllm_api.connection import connect

SMOKE = "first-look"
"""The shipped scenario that is the shortest conclusive look."""


def load(options: RunOptions) -> list[Cell]:
    """Return the cells that ``options`` ask for.

    Raises:
        ScenarioError: a scenario file is wrong.
        UsageError: an arm, an expression or a shard is; or paths are given as well as ``smoke``.
    """
    cells = _whole_matrix(options)
    return cells if options.shard is None else Shard.parse(options.shard).select(cells)


def _whole_matrix(options: RunOptions) -> list[Cell]:
    if options.smoke and options.paths:
        raise UsageError("--smoke names its scenario itself", remedy="leave out the paths, or --smoke")
    paths = options.paths or (shipped_names()[SMOKE] if options.smoke else shipped_scenarios(),)
    cells = [
        replace(cell, scenario=cell.scenario.asking_kinds(options.kinds))
        for cell in load_cells(paths, only_default=not options.paths, prompts=options.prompts)
    ]
    return select_cells(cells, arms=options.arms, expression=options.expression)


def refuse(options: RunOptions, cells: Sequence[Cell]) -> None:
    """Return if nothing speaks against ``options`` as far as they tell, without a look at the machine.

    Raises:
        UsageError: a run would be refused: options contradict each other, a file is not what it should be,
            or a planted fault has nothing to break.
    """
    check_options(_wanted(options))
    if options.endpoint is not None:
        base_url_of(options.endpoint)
        options.access.tls()
        require_few_sleeps(cells, options.max_sleeps)
    if options.model is not None and names_folder(options.model):
        provide_model(options.model, dtype="float32")
    _cluster(options)
    refuse_faults(cells, options)


def _cluster(options: RunOptions) -> Cluster | None:
    return asked_cluster(
        options.executor,
        address=options.address,
        resources=options.resources,
        foreign_servers=options.endpoint is not None or options.keep_servers,
    )


def choose(options: RunOptions) -> Choice:
    """Choose the runtime.

    Raises:
        UsageError: the options contradict each other.
        RuntimeUnavailableError: the machine cannot run what was asked for.
    """
    return choose_runtime(_wanted(options), access=options.access, keep_servers=options.keep_servers)


def _wanted(options: RunOptions) -> Wanted:
    return Wanted(runtime=options.runtime, vllm=options.vllm, image=options.image, endpoint=options.endpoint)


def plan(
    options: RunOptions,
    cells: Sequence[Cell],
    choice: Choice,
    *,
    resume_in: Path | None = None,
    matrix: Sequence[str] | None = None,
) -> RunPlan:
    """Decide all that can be decided before anything is started; the model is provided.

    ``resume_in`` is the directory of a run that is taken up again.  Without it the plan names the folder in
    which a directory will be made.  ``matrix`` names the cells that a shard is a part of, where the options
    alone do not tell.

    Raises:
        ModelError: the model cannot be provided.
        UsageError: the model lacks what a cell needs.
    """
    attached = choice.runtime.name == "attached" and options.model is None
    model = THE_SERVERS_OWN if attached else provide_model(options.model, dtype="float32")
    require_variants(cells, model)
    return RunPlan(
        directory=resume_in or options.out,
        cells=tuple(cells),
        model=model,
        runtime=ChosenRuntime(name=choice.runtime.name, why=choice.reason),
        options=options,
        command=tuple(sys.argv),
        resumes=resume_in is not None,
        begun_with=budget_of(read_description(resume_in)).cells if resume_in else 0,
        shard=None if resume_in else _shard(options, matrix),
    )


def _shard(options: RunOptions, matrix: Sequence[str] | None) -> DescribedShard | None:
    if options.shard is None:
        return None
    shard = Shard.parse(options.shard)
    whole = matrix or [cell.id for cell in _whole_matrix(options)]
    return DescribedShard(index=shard.index, of=shard.of, matrix=tuple(whole))


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """Where a run is, and whether it came to its end without being interrupted.

    ``left_out`` says why a server that is not ours was not tested as one of the cells that were asked for;
    ``as_served`` names the cell that stands for one of them, where the server does not tell what it runs.
    """

    directory: Path
    whole: bool
    left_out: Mapping[str, str] = field(default_factory=dict)
    as_served: Mapping[str, str] = field(default_factory=dict)


def run(
    options: RunOptions,
    cells: Sequence[Cell],
    choice: Choice,
    *,
    progress: Progress,
    resume_in: Path | None = None,
) -> FinishedRun:
    """Plan a run of ``cells`` and run it; leftovers of earlier runs are removed first.

    It is a run that is taken up again where ``resume_in`` names its directory.

    Raises:
        UsageError: another harness is at work in the run that is to be taken up.
        ModelError: the model cannot be provided.
        StorageError: the run directory cannot be written.
    """
    asked_at = time.monotonic()
    cluster = _cluster(options)
    for sentence in choice.runtime.sweep():
        progress.note(f"cleaned up: {sentence}")
    chosen: Served | None = None
    if options.endpoint is not None:
        shard = None if resume_in or options.shard is None else Shard.parse(options.shard)
        asked = cells if shard is None else fit(_whole_matrix(options), choice.runtime, options)[0]
        chosen = ask_to_stay(base_url_of(options.endpoint), asked, options, shard=shard, progress=progress)
        cells = chosen.cells
    planned = replace(
        plan(options, cells, choice, resume_in=resume_in, matrix=chosen.matrix if chosen else None),
        asked_at=asked_at,
    )
    with _executor(planned, choice, cluster, progress) as executor:
        directory = resume_in or new_run_directory(options.out)
        planned = replace(planned, directory=directory)
        failures: list[str] = []
        with recorded(planned) as record:
            whole = anyio.run(run_cells, executor, _work(planned, record, progress, failures))
            record.interrupted = not whole
            record.ended_with = failures[0] if failures and options.exit_first else None
    return FinishedRun(
        directory=directory,
        whole=whole,
        left_out=chosen.left_out if chosen else {},
        as_served=chosen.as_served if chosen else {},
    )


def run_asked(options: RunOptions, *, progress: Callable[[int], Progress]) -> FinishedRun:
    """Go from options to a finished run in one call; ``progress`` is for so many cells."""
    cells = load(options)
    choice = choose(options)
    cells, left_out = fit(cells, choice.runtime, options)
    with progress(len(cells)) as shown:
        if left_out:
            shown.note(left_out)
        return run(options, cells, choice, progress=shown)


def ask_to_stay(
    endpoint: str,
    cells: Sequence[Cell],
    options: RunOptions,
    *,
    shard: Shard | None = None,
    progress: Progress,
) -> Served:
    """Ask a server that is not ours how it is before it is touched; choose the cells whose arm it runs.

    What a harness that was killed still owes it is given back first.  A shard is a part of what was chosen,
    so that all shards of a matrix agree on the whole.

    Raises:
        UsageError: it would be put to sleep more often than allowed.
        RuntimeUnavailableError: it rests already, is in use, does not answer as it must, or runs no arm.
    """
    give_back = partial(give_back_to, Ledger(), endpoint, access=options.access)
    for leftover in anyio.run(give_back):
        if not leftover.is_settled:
            raise RuntimeUnavailableError(leftover.sentence, remedy="nothing is begun until it is as it was")
        progress.note(leftover.sentence)

    async def ask() -> Served:
        async with connect(endpoint, access=options.access) as connection:
            await require_fit(connection, allow_busy=options.allow_busy)
            return await served(connection, cells)

    chosen = anyio.run(ask)
    if not chosen.cells:
        raise RuntimeUnavailableError(
            f"no arm is what {endpoint} runs: {_each(chosen.left_out)}",
            remedy="choose scenarios with an arm that it runs, or start it with such flags",
        )
    if shard is not None:
        chosen = replace(chosen, cells=tuple(shard.select(chosen.cells)))
    require_few_sleeps(chosen.cells, options.max_sleeps)
    if chosen.left_out:
        progress.note(f"left out, as the server is not known to run them: {_each(chosen.left_out)}")
    if chosen.as_served:
        told = ", ".join(f"{there} instead of {asked}" for asked, there in chosen.as_served.items())
        progress.note(f"tested as served, since the server does not tell which arm it is: {told}")
    progress.expect(len(chosen.cells))

    async def estimate() -> float | None:
        async with connect(endpoint, access=options.access) as connection:
            speed = await tokens_per_second(connection, chosen.cells)
        return speed and tokens_asked(chosen.cells) / speed

    progress.note(announcement(chosen.cells, endpoint, seconds=anyio.run(estimate)))
    return chosen


def _each(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({reason})" for name, reason in reasons.items())


@contextmanager
def _executor(
    plan: RunPlan, choice: Choice, cluster: Cluster | None, progress: Progress
) -> Iterator[Executor]:
    """Where the cells run; all that can be known to be missing there is found out before any does."""
    if cluster is None:
        yield LocalExecutor(choice.runtime)
        return
    with spread_over(
        cluster, choice, plan.jobs, model=plan.model, asked=plan.options, tell=progress.note
    ) as executor:
        progress.cells_interleave()
        yield executor


def _work(plan: RunPlan, record: RunRecord, progress: Progress, failures: list[str]) -> Work:
    """The cells, with what is done while they run: noted, shown, and judged as early as that saves time.

    Those that turn out to be corrupt or degraded are added to ``failures``.
    """
    options = plan.options
    looks = EarlyLooks(knows_noise=knows_noise)
    return Work(
        jobs=plan.jobs,
        watcher_of=lambda job: record.noting(job.cell.id, _watcher(job, progress, plan.budget, failures)),
        looks=looks if options.thorough else replace(looks, is_decided=is_decided),
        sharing=None if options.isolate else Judges(is_clean=would_be_clean, sees_again=sees_again),
        is_over=lambda: options.exit_first and bool(failures),
    )


def _watcher(job: CellJob, progress: Progress, budget: ErrorBudget, failures: list[str]) -> Watcher:
    """Show every event; when the cell is over, judge its recording and show the verdict.

    A cell that begins again has none yet; one whose server turns out to be damaged has another.
    """

    def watch(event: Event) -> None:
        progress.show(job.cell.id, event)
        if (isinstance(event, CellFailed) and not event.again) or isinstance(
            event, CellFinished | ServerLeftDamaged
        ):
            result = judge(load_recording(job.directory), budget=budget)
            progress.conclude(result)
            if result.verdict in {Verdict.CORRUPT, Verdict.DEGRADED}:
                failures.append(result.cell)

    return watch


def commands(options: RunOptions, cells: Sequence[Cell], choice: Choice) -> Iterator[tuple[str, str]]:
    """Yield every cell's id with the exact command that would start its server; nothing is started."""
    for job in plan(options, cells, choice).jobs:
        yield job.cell.id, choice.runtime.command(job.spec)
