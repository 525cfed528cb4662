"""One running engine for many sequences: each is carried out, recorded and judged like any cell.

Baselines and noise are taken once an engine, each when the first sequence needs it.  After a sequence
the engine goes on only if its last probe showed, or another one shows, that its answers are the baseline's;
else it is stopped, and the next sequence meets a fresh one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from harness.check import judge
from harness.check.noise.budget import ErrorBudget
from harness.check.result import CellResult, Verdict
from harness.drive.cell import LooksAt, cell_started, ended_in_order, run_on_server
from harness.drive.job import CellJob
from harness.drive.probing import role_and_target, run_probe
from harness.drive.recorder import Recorder, unwatched
from harness.drive.script import NOTHING_WOULD_RETURN, PlacedStep, run_step
from harness.drive.session import Session
from harness.errors import InfrastructureError, ServerDiedError
from harness.explore.fuzz.findings import HANGS, failure_in
from harness.explore.fuzz.moves import ADAPTER
from harness.explore.fuzz.scenario import BEGINNING
from harness.explore.fuzz.sequences import setup_for
from harness.history.events import CellShortened
from harness.history.layout import HISTORY_FILE
from harness.history.recording import load_recording
from harness.scenario.script import Step
from harness.scenario.steps.asking import ProbeOptions
from harness.scenario.steps.requests import StartRequests
from harness.servers.base import Runtime
from harness.vllm_api import lifecycle

ANSWER_DEADLINE_S = 20.0
"""Of an engine that has answered before: ten times what it needs, and a hang is seen soon."""
_OF_A_SEARCH = ErrorBudget(cells=100)
"""A search judges as many sequences: each has the error rate of a cell of so large a run."""
_CANARY = ProbeOptions(name="canary", evidence=("warm",))


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A sequence that was carried out."""

    steps: tuple[Step, ...]
    """Up to the probe whose answers were wrong, where there was one."""
    result: CellResult
    seconds: float
    directory: Path


@dataclass(kw_only=True, eq=False)
class _Errand:
    """A sequence that somebody waits for."""

    steps: tuple[Step, ...]
    setting: int
    directory: Path
    outcome: Carried | InfrastructureError | None = None
    done: anyio.Event = field(default_factory=anyio.Event)

    def reply(self, outcome: Carried | InfrastructureError) -> None:
        self.outcome = outcome
        self.done.set()


class FuzzEngine:
    """Carries sequences out one after the other, on a fresh engine whenever the last one is spoilt.

    ``jobs`` are what an engine is started as, one for each setting.
    """

    def __init__(self, jobs: Sequence[CellJob], runtime: Runtime, *, knows_noise: LooksAt) -> None:
        self._jobs = jobs
        self._knows_noise = knows_noise
        self._job = jobs[0]
        """Of the engine that runs."""
        self._booted = jobs[0]
        """The same, with the directory of this engine."""
        self._runtime = runtime
        self._next: _Errand | None = None
        self._last: _Errand | None = None
        """The one that was carried out last; it may not have been told its outcome yet."""
        self._asked = anyio.Event()
        self._sequences = 0
        self.boots = 0

    async def serve(self) -> None:
        """Boot an engine when there is something to do, again and again, until cancelled: then none runs."""
        try:
            while True:
                errand = await self._wait_for_errand()
                await self._boot(self._jobs[errand.setting])
        finally:
            if self._next is not None:
                self._next.done.set()

    async def try_sequence(self, steps: tuple[Step, ...], setting: int) -> Carried:
        """Carry one sequence out and judge it, while :meth:`serve` runs; called by one at a time.

        ``setting`` is the number of the job that its engine must have been started as.

        Raises:
            InfrastructureError: the machine got in the way: no engine can be had.
        """
        self._sequences += 1
        directory = self._jobs[0].directory / "sequences" / str(self._sequences)
        errand = _Errand(steps=steps, setting=setting, directory=directory)
        self._next = errand
        self._asked.set()
        await errand.done.wait()
        if errand.outcome is None or isinstance(errand.outcome, InfrastructureError):
            raise errand.outcome or RuntimeError("a sequence was left without an outcome")
        return errand.outcome

    async def _wait_for_errand(self) -> _Errand:
        while self._next is None:
            await self._asked.wait()
            self._asked = anyio.Event()
        return self._next

    async def _boot(self, job: CellJob) -> None:
        """Serve errands on one engine until it is spoilt, or one wants another."""
        self.boots += 1
        self._job = job
        job = self._booted = replace(job, directory=job.directory / "engines" / str(self.boots))
        recorder = Recorder(job.directory / HISTORY_FILE, watcher=unwatched)
        recorder.record(cell_started(job, recorder))
        try:
            await run_on_server(job, self._runtime, recorder, self._serve_errands)
        except InfrastructureError as error:
            errand, self._next = self._next, None
            if errand is not None:
                died = isinstance(error, ServerDiedError) and (errand.directory / HISTORY_FILE).exists()
                errand.reply(_died(errand, error) if died else error)
        finally:
            recorder.close()
            if self._last is not None:
                self._last.done.set()

    async def _serve_errands(self, session: Session) -> None:
        booted = self._booted
        session.knows_noise = lambda: self._knows_noise(booted.directory)
        common: list[Step] = []
        await _prepare(session, BEGINNING, common)
        healthy = True
        while healthy:
            errand = await self._wait_for_errand()
            if self._jobs[errand.setting] is not self._job:
                return
            await _prepare(session, setup_for(errand.steps, taken=session.references), common)
            carried = await self._try(session, errand, tuple(common))
            await session.require_alive()
            # From here on the outcome stands, even if the engine dies of its recovery.
            self._next, self._last, errand.outcome = None, errand, carried
            if failure_in(carried.result) is None:
                shutil.rmtree(errand.directory)
            healthy = await self._is_healthy_after(session, carried)
            errand.reply(carried)

    async def _try(self, shared: Session, errand: _Errand, common: tuple[Step, ...]) -> Carried:
        scenario = shared.scenario.model_copy(update={"script": (*common, *errand.steps)})
        job = replace(self._job, cell=replace(self._job.cell, scenario=scenario), directory=errand.directory)
        begin = cell_started(job, shared.recorder)
        recorder = shared.recorder.branch(errand.directory / HISTORY_FILE, begin=begin, watcher=unwatched)
        session = _impatient(shared.branch(recorder))
        began, taken = recorder.now(), 0
        async with ended_in_order(recorder):
            for number, step in enumerate(errand.steps, start=1):
                if session.rests_on and (step.asks or isinstance(step, StartRequests)):
                    left_out = tuple(str(each) for each in range(number, len(errand.steps) + 1))
                    recorder.record(
                        CellShortened(t=recorder.now(), skipped=left_out, because=NOTHING_WOULD_RETURN)
                    )
                    taken = len(errand.steps)
                    break
                await run_step(session, PlacedStep(path=str(number), cycle=0, step=step))
                taken = number
                if session.controls_asked:
                    break  # the control questions have healed the engine: what follows would tell nothing
            await session.in_flight.give_up_all()
        return Carried(
            steps=errand.steps[:taken],
            result=judge(load_recording(errand.directory), budget=_OF_A_SEARCH),
            seconds=recorder.now() - began,
            directory=errand.directory,
        )

    async def _is_healthy_after(self, shared: Session, carried: Carried) -> bool:
        """Whether the next sequence may meet this engine."""
        failure = failure_in(carried.result)
        if failure is not None and failure.kind == HANGS:
            return False  # to find that out again would take every deadline there is
        if carried.result.verdict is Verdict.CLEAN and not setup_for(carried.steps):
            # Its last probe has shown it, of the model's own weights and no adapter.  Only the gauge may
            # still tell of a level 0 that was ended by /resume.
            http, deadline = shared.connection.http, shared.scenario.deadlines.transition
            return (await lifecycle.wake_up(http, deadline_s=deadline)).ok
        return await self._is_healthy_again(shared, carried.directory)

    async def _is_healthy_again(self, shared: Session, directory: Path) -> bool:
        """Recover as vLLM documents it, forget what is cached, and see whether answers are the baseline's.

        What this does is recorded apart: it is no evidence of the next sequence.
        """
        begin = cell_started(self._job, shared.recorder)
        folder = directory.with_name(f"{directory.name}-recovery")
        recorder = shared.recorder.branch(folder / HISTORY_FILE, begin=begin, watcher=unwatched)
        session = shared.branch(recorder)
        session.controls_asked, session.step = True, "recovery"
        try:
            healthy = await _recover(session) and not await _ask_canary(session)
        finally:
            recorder.close()
        shutil.rmtree(folder)
        return healthy


def _died(errand: _Errand, died: InfrastructureError) -> Carried:
    """What was recorded until the engine died; who watches over it may have cut the recording short."""
    result = judge(load_recording(errand.directory), budget=_OF_A_SEARCH)
    return Carried(
        steps=errand.steps,
        result=result.model_copy(update={"error": type(died).__name__, "reason": died.cause}),
        seconds=0.0,
        directory=errand.directory,
    )


async def _prepare(session: Session, steps: tuple[Step, ...], common: list[Step]) -> None:
    """Carry out what every recording begins with from now on."""
    for step in steps:
        common.append(step)
        await run_step(session, PlacedStep(path=f"0.{len(common)}", cycle=0, step=step))


def _impatient(session: Session) -> Session:
    """The same session, which waits no longer for an answer than a warm engine needs."""
    deadlines = session.scenario.deadlines
    shorter = deadlines.model_copy(update={"answer": min(deadlines.answer, ANSWER_DEADLINE_S)})
    return replace(session, scenario=session.scenario.model_copy(update={"deadlines": shorter}))


async def _recover(session: Session) -> bool:
    """Wake up, go on, load the model's own weights, forget the prefix cache; whether all were accepted.

    The first that is refused ends it: an engine that hangs would let each wait for its deadline.
    """
    http, deadline = session.connection.http, session.scenario.deadlines.transition
    if not (await lifecycle.wake_up(http, deadline_s=deadline)).ok:
        return False
    if not (await lifecycle.resume(http, deadline_s=deadline)).ok:
        return False
    own = session.variants.own_weights
    if not (await lifecycle.reload_weights(http, path=own, deadline_s=deadline)).ok:
        return False
    # Refused where there is none.
    await lifecycle.unload_lora_adapter(http, name=ADAPTER, deadline_s=deadline)
    forgotten = await lifecycle.reset_prefix_cache(http, deadline_s=deadline)
    return forgotten.field("success") is not False


async def _ask_canary(session: Session) -> bool:
    """Whether any answer differs from the baseline's; they are in the prefix cache afterwards."""
    role, target = role_and_target(session, _CANARY)
    return bool(await run_probe(session, _CANARY, role=role, target=target))
