"""Runs cells until they are done, and stops in order when asked to."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

from harness.drive.executors import Executor, Work
from harness.errors import SleepwakeError


async def run_cells(executor: Executor, work: Work) -> bool:
    """Run every cell of ``work``; return whether that came to its end without being interrupted.

    Interrupt and termination signals stop the cells that are running, servers included, and skip the rest.
    """
    return await run_interruptibly(lambda: executor.run_all(work))


async def run_interruptibly(body: Callable[[], Awaitable[None]]) -> bool:
    """Await ``body``; return whether it came to its end without being interrupted.

    Interrupt and termination signals cancel it, so that it stops its servers in order.
    """
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
            await body()
            group.cancel_scope.cancel()
    except* SleepwakeError as errors:
        raise _first(errors) from None
    return not interrupted


def _first(errors: BaseExceptionGroup[SleepwakeError]) -> SleepwakeError:
    """The first error of a group, however deep it lies: one that a user reads, instead of a tree."""
    error: SleepwakeError | BaseExceptionGroup[SleepwakeError] = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
