"""Runs one cell from server start to server end; whatever happens ends in its history."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from harness.drive.conditions import each_concurrency
from harness.drive.guest.staying import as_a_guest
from harness.drive.heartbeat import keep_beating
from harness.drive.introduction import caches_prompts, configuration_of, introduced, served_model
from harness.drive.job import CellJob
from harness.drive.prompts import prepare_prompts
from harness.drive.recorder import Recorder, Watcher
from harness.drive.script import lacking, run_script
from harness.drive.session import Session
from harness.errors import InfrastructureError, ServerError, ServerNotFreshError, StorageError
from harness.history.events import CellFailed, CellFinished, CellStarted, CellUnavailable
from harness.history.layout import HISTORY_FILE
from harness.models.variants import provide_variants
from harness.redaction import is_secret_name, without_secret_flags
from harness.servers.base import StartsServers
from harness.vllm_api.connection import connect

DEATH_POLL_S = 0.5


LooksAt = Callable[[Path], bool]
"""Looks at what is recorded so far of the cell in a folder."""


@dataclass(frozen=True, kw_only=True)
class EarlyLooks:
    """What a cell may leave out, judged from what is recorded of it so far."""

    is_decided: LooksAt = lambda _: False
    """Whether the verdict is certain: then further cycles of a repetition are left out."""
    knows_noise: LooksAt = lambda _: True
    """Whether it is known how much answers differ by themselves: then further null passes are left out."""
    require_as_fresh: Callable[[Path], None] = lambda _: None
    """Raises :class:`ServerNotFreshError` where the server, asked before anything is done to it, does not
    answer as when it was fresh."""


async def run_cell(
    job: CellJob, runtime: StartsServers, *, watcher: Watcher, looks: EarlyLooks | None = None
) -> None:
    """Run one cell.  What the machine does wrong becomes a ``cell_failed`` event, not an exception.

    Raises:
        StorageError: the history cannot be written; what was written stays readable.
        ServerNotFreshError: the server that it shares is not as it was; the cell has to begin again.
    """
    recorder = Recorder(job.directory / HISTORY_FILE, watcher=watcher)
    async with ended_in_order(recorder):
        recorder.record(cell_started(job, recorder))
        await run_on_server(
            job, runtime, recorder, partial(_follow_script, job.directory, looks or EarlyLooks())
        )


async def _follow_script(directory: Path, looks: EarlyLooks, session: Session) -> None:
    session.knows_noise = lambda: looks.knows_noise(directory)
    await run_script(
        session,
        is_decided=lambda: looks.is_decided(directory),
        require_as_fresh=lambda: looks.require_as_fresh(directory),
    )


@asynccontextmanager
async def ended_in_order(recorder: Recorder) -> AsyncIterator[None]:
    """Record how a cell ends and close its history; infrastructure errors end here."""
    try:
        yield
        recorder.record(CellFinished(t=recorder.now()))
    except StorageError:
        raise
    except ServerNotFreshError as error:
        recorder.record(_cell_failed(error, recorder).model_copy(update={"again": True}))
        raise
    except InfrastructureError as error:
        recorder.record(_cell_failed(error, recorder))
    except anyio.get_cancelled_exc_class():
        recorder.record(
            CellFailed(
                t=recorder.now(),
                error="InterruptedRunError",
                cause="the run was interrupted",
                remedy="run it again; what was recorded so far is kept",
                interrupted=True,
            )
        )
        raise
    finally:
        recorder.close()


async def run_on_server(
    job: CellJob, runtime: StartsServers, recorder: Recorder, body: Callable[[Session], Awaitable[None]]
) -> None:
    """Start the cell's server, prepare its prompts, and let ``body`` do the rest while the server lives.

    Where the release lacks what the script needs, that is recorded and ``body`` is not called.

    Raises:
        InfrastructureError: the machine got in the way.
    """
    await anyio.to_thread.run_sync(_provide_variants, job)
    asked_at = recorder.now()
    async with (
        _emptied(job.scratch),
        _emptied(job.variants.exchanged),
        runtime.start(job.spec) as server,
    ):
        boot_seconds = 0.0 if server.facts.shared_with else recorder.now() - asked_at
        async with connect(server.base_url, access=server.access) as connection:
            ready = await introduced(server, connection, now=recorder.now, boot_seconds=boot_seconds)
            recorder.record(ready)
            session = Session(
                scenario=job.cell.scenario,
                server=server,
                connection=connection,
                recorder=recorder,
                served_model_name=job.model.served_name or await served_model(connection),
                variants=job.variants,
                vllm_version=ready.vllm_version,
                caches_prompts=caches_prompts(ready),
            )
            if (missing := lacking(session, job.cell.arm)) and session.vllm_version:
                recorder.record(
                    CellUnavailable(
                        t=recorder.now(), lacking=tuple(missing), vllm_version=session.vllm_version
                    )
                )
                return

            async def prepared() -> None:
                await prepare_prompts(session, job, configuration_of(ready))
                async with session.in_flight.allowed():
                    await body(session)

            async with as_a_guest(session, job):
                await _while_alive(session, prepared)


@asynccontextmanager
async def _emptied(folder: Path) -> AsyncIterator[None]:
    """Remove a folder that goes with a server, once it has ended."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _provide_variants(job: CellJob) -> None:
    needs = job.needs
    provide_variants(job.model, adapters=needs.adapters, other_weights=needs.other_weights)
    if needs.adapters:
        job.variants.exchanged.mkdir(parents=True, exist_ok=True)


async def _while_alive(session: Session, body: Callable[[], Awaitable[None]]) -> None:
    """Stop ``body`` at once, with the reason, when the server is gone."""

    async def watch() -> None:
        while True:
            await session.require_alive()
            await anyio.sleep(DEATH_POLL_S)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            group.start_soon(keep_beating, session.recorder)
            await body()
            group.cancel_scope.cancel()
    except* InfrastructureError as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[InfrastructureError]) -> InfrastructureError:
    """One error out of those that concurrent tasks raised together, which share a cause."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


def cell_started(job: CellJob, recorder: Recorder) -> CellStarted:
    """The first event of a cell's history."""
    scenario = job.cell.scenario
    return CellStarted(
        t=recorder.now(),
        run=job.run_id,
        cell=job.cell.id,
        scenario=scenario.name,
        why=scenario.why,
        sources=scenario.sources,
        arm=job.cell.arm_name,
        arm_args=tuple(without_secret_flags((*job.extra_args, *job.cell.arm.args))),
        arm_env={name: "***" if is_secret_name(name) else value for name, value in job.cell.arm.env.items()},
        script=tuple(step.model_dump(mode="json") for step in scenario.script),
        max_tokens=scenario.sampling.max_tokens,
        temperature=scenario.sampling.temperature,
        concurrency=each_concurrency(scenario.concurrency)[0],
        fault=job.fault,
        started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _cell_failed(error: InfrastructureError, recorder: Recorder) -> CellFailed:
    return CellFailed(
        t=recorder.now(),
        error=type(error).__name__,
        cause=error.cause,
        remedy=error.remedy,
        log_tail=error.log_tail if isinstance(error, ServerError) else "",
    )
