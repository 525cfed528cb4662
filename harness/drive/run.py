"""Runs cells into a run directory, and stops in order when asked to."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

from harness.drive.cell import CellJob, EarlyLooks
from harness.drive.executors import Executor, Work
from harness.drive.recorder import Watcher
from harness.drive.run_directory import RunPlan, RunRecord, alone_in
from harness.drive.sharing import Judges
from harness.errors import StorageError


async def run_cells(
    plan: RunPlan,
    executor: Executor,
    *,
    watcher_of: Callable[[CellJob], Watcher],
    looks: EarlyLooks | None = None,
    sharing: Judges | None = None,
) -> bool:
    """Run every cell of ``plan``; return whether the run came to its end without being interrupted.

    Interrupt and termination signals stop the cells that are running, servers included, and skip the rest.
    What an earlier attempt at a cell left is set aside first.  ``looks`` tell a cell what it may leave
    out.  With ``sharing``, cells may share servers (:mod:`harness.drive.sharing`) and are run in an
    order that lets them.

    Raises:
        UsageError: another harness is at work in the run directory.
        StorageError: the run directory cannot be written any more.
    """

    async def all_cells(record: RunRecord) -> None:
        await executor.run_all(
            Work(
                jobs=tuple(plan.job(cell) for cell in plan.cells),
                watcher_of=lambda job: record.noting(job.cell.id, watcher_of(job)),
                looks=looks or EarlyLooks(),
                sharing=sharing,
            )
        )

    return await run_interruptibly(plan, all_cells)


async def run_interruptibly(plan: RunPlan, body: Callable[[RunRecord], Awaitable[None]]) -> bool:
    """Let ``body`` run the cells of ``plan``; return whether it came to its end without being interrupted.

    Interrupt and termination signals cancel it, so that it stops its servers in order.

    Raises:
        UsageError: another harness is at work in the run directory.
        StorageError: the run directory cannot be written any more.
    """
    with alone_in(plan.directory):
        return await _until_interrupted(plan, body)


async def _until_interrupted(plan: RunPlan, body: Callable[[RunRecord], Awaitable[None]]) -> bool:
    record = RunRecord(plan)
    record.write()
    interrupted = False

    async def stop_on_signal(
        scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                interrupted = True
                scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            await group.start(stop_on_signal, group.cancel_scope)
            await body(record)
            group.cancel_scope.cancel()
    except* StorageError as errors:
        raise StorageError(str(errors.exceptions[0])) from None
    finally:
        record.finish(interrupted=interrupted)
    return not interrupted
