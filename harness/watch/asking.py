"""Asks the canaries: once for a baseline, and after everything that happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from harness.drive.cell import cell_started, ended_in_order
from harness.drive.conditions import Condition
from harness.drive.guest.counting import counted_between
from harness.drive.introduction import caches_prompts, configuration_of, introduced, served_model
from harness.drive.job import CellJob
from harness.drive.prompts import prepare_prompts
from harness.drive.recorder import Recorder, Watcher
from harness.drive.script import PlacedStep, run_step
from harness.drive.session import OBSERVATION_DEADLINE_S, Reference, Session
from harness.errors import RuntimeUnavailableError
from harness.history.events import ServerReady
from harness.history.layout import HISTORY_FILE
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import Role
from harness.history.recording import Recording
from harness.runs.looks import knows_noise
from harness.servers.base import Server
from harness.vllm_api.connection import Connection
from harness.vllm_api.metrics import MetricsSnapshot, read_metrics
from harness.vllm_api.versions import Feature, has
from harness.watch.canaries import BEGINNING, QUESTIONS
from harness.watch.noticing import Happening


@dataclass(frozen=True, kw_only=True)
class Met:
    """A server that has introduced itself."""

    ready: ServerReady
    model: str
    """The name it serves its model under."""


async def meet(server: Server, connection: Connection) -> Met:
    """Let the server introduce itself; nothing is asked of the engine.

    Raises:
        RuntimeUnavailableError: its release cannot be watched.
        ServerError: it lists no model.
    """
    ready = await introduced(server, connection, now=lambda: 0.0, boot_seconds=0.0)
    version = ready.vllm_version
    if version is not None and has(Feature.CACHE_SALT, version) is False:
        raise RuntimeUnavailableError(
            f"vLLM {version} has no cache salts: only a reset of its cache would make it compute",
            remedy="watch a server of vLLM 0.10.0 or newer; `sleepwake run` tests older ones",
        )
    return Met(ready=ready, model=await served_model(connection))


def new_session(
    met: Met, server: Server, connection: Connection, recorder: Recorder, job: CellJob
) -> Session:
    """A session that nothing has been asked in."""
    recorder.record(met.ready.model_copy(update={"t": recorder.now()}))
    return Session(
        scenario=job.cell.scenario,
        server=server,
        connection=connection,
        recorder=recorder,
        served_model_name=met.model,
        variants=job.variants,
        vllm_version=met.ready.vllm_version,
        caches_prompts=caches_prompts(met.ready),
        knows_noise=lambda: knows_noise(job.directory),
        is_passive=True,
    )


async def take_baseline(session: Session, job: CellJob, met: Met) -> None:
    """Ask the canaries, and again until it is known how much answers differ by themselves.

    Raises:
        InfrastructureError: the machine got in the way.
    """
    await prepare_prompts(session, job, configuration_of(met.ready))
    for number, step in enumerate(BEGINNING, start=1):
        await run_step(session, PlacedStep(path=str(number), cycle=0, step=step))


def with_baseline_of(session: Session, recording: Recording) -> Session:
    """The same session, with the prompts of an earlier baseline and what was answered then."""
    references: dict[str, Reference] = {}
    for each in recording.passes_of(Role.BASELINE):
        start = each.start
        name = start.reference or start.probe
        reference = references.setdefault(
            name, Reference(name=name, adapter=start.adapter, weights="own", transitions=0)
        )
        if not any(recording.prompts[prompt].held_out for prompt in start.asked):
            condition = Condition(method=start.method, cache=start.cache, concurrency=start.concurrency)
            reference.answers[condition] = dict(each.answers)
    return replace(session, prompts=tuple(recording.prompts.values()), references=references)


async def check(
    shared: Session,
    happened: Happening,
    *,
    job: CellJob,
    watcher: Watcher,
    calls_for_controls: Callable[[], Awaitable[bool]],
) -> None:
    """Ask the canaries after ``happened``, in a history of its own that begins with the baseline's.

    Answers that differ as noise does would be worth control questions to a test; here they would cost others
    time and cached blocks after every wake-up, so that ``calls_for_controls`` is asked first.

    Raises:
        StorageError: it cannot be recorded.
    """
    path = job.directory / HISTORY_FILE
    recorder = shared.recorder.branch(path, begin=cell_started(job, shared.recorder), watcher=watcher)
    session = replace(shared.branch(recorder), calls_for_controls=calls_for_controls)
    async with ended_in_order(recorder):
        before, asked_before = await _counted(session), session.connection.asked.number
        for number, (action, options) in enumerate(happened.actions.items(), start=1):
            _record_seen(session, f"3.{number}", action, options)
        await run_step(session, PlacedStep(path="4", cycle=0, step=QUESTIONS))
        after, asked = await _counted(session), session.connection.asked.number
        under_way = (after.requests_running or 0) + (after.requests_waiting or 0) if after else 0
        recorder.record(
            counted_between(before, after, own=asked - asked_before, t=recorder.now(), under_way=under_way)
        )


def _record_seen(session: Session, path: str, action: str, options: dict[str, int | str]) -> None:
    """Put into the history what somebody else did."""
    session.transitions += 1
    session.recorder.record(
        StepStarted(
            t=session.recorder.now(),
            step=path,
            action=action,
            options={**options},
            cycle=0,
            changes_engine=True,
            takes_memory=True,
            only_adapter=None,
            asleep_after=None,
            seen=True,
        )
    )
    session.recorder.record(StepFinished(t=session.recorder.now(), step=path, seconds=0.0))


async def _counted(session: Session) -> MetricsSnapshot | None:
    reading = await read_metrics(session.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
    return reading.snapshot
