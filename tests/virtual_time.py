"""An event loop whose clock hardly moves while there is work, and jumps to the next timer when there is none.

A deadline then runs out only where nothing comes that it waits for, however busy the machine is, and
waiting for it takes no time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from typing import TypeVar, TypeVarTuple

import anyio.to_thread
import pytest

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

BEGINNING_S = 1000.0
TICK_S = 1e-6
"""By how much the clock moves whenever it is read: what comes later has a later time."""


class _Clock(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, the clock moves on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = BEGINNING_S
        self._holders = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self._holders:
            return super().select()
        self.now_s += timeout
        return []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait in real time within the block: for what comes from another thread."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs what needs nothing from outside this process, but for threads.

    Those it waits for in real time, while its clock stands still: its own executor's, and those of
    :func:`anyio.to_thread.run_sync` as :func:`watch_threads` tells it.
    """

    def __init__(self) -> None:
        self.clock = _Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        """The clock that all deadlines of this loop are kept by."""
        self.clock.now_s += TICK_S
        return self.clock.now_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        """Wait in real time for what other libraries do in threads, by :func:`asyncio.to_thread` too."""
        future = super().run_in_executor(executor, func, *args)
        held = ExitStack()
        held.enter_context(self.clock.held())
        future.add_done_callback(lambda _: held.close())
        return future


def watch_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let loops with a virtual clock know of the threads that they wait for."""
    run_sync = anyio.to_thread.run_sync

    async def counted(
        function: Callable[..., Result],
        *args: object,
        abandon_on_cancel: bool = False,
        limiter: anyio.CapacityLimiter | None = None,
    ) -> Result:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualTimeLoop):
            return await run_sync(function, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
        with loop.clock.held():
            return await run_sync(function, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
