"""Requests that run beside the script: started by one step, ended by a later one.

They are tasks of one group that lives as long as the cell's session.  When that ends, whatever
the reason, none is left: what still runs is cancelled, which closes its connection.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from harness.drive.recorder import Recorder
from harness.drive.standstill import Watch
from harness.history.event_base import CallFailure
from harness.history.passes import RequestEnded, RequestRunning, RequestStarted
from harness.vllm_api.connection import Connection
from harness.vllm_api.generation import GenerationRequest
from harness.vllm_api.streaming import Streamed, stream

NO_DEADLINE_S = math.inf
"""Of a request itself: the step that ends it has one, and the cell's end is the last."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: which prompt it sends to whom, and which baseline knows the undisturbed answer."""

    prompt: str
    request: GenerationRequest
    reference: str
    adapter: str | None = None


@dataclass(kw_only=True, eq=False)
class _Running:
    """A request on its way."""

    number: int
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    streamed: Streamed = field(default_factory=Streamed)
    accepted: anyio.Event = field(default_factory=anyio.Event)
    begun: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    client_left: bool = False
    given_up: CallFailure | None = None


@dataclass(kw_only=True, eq=False)
class _Companion:
    """Something else that runs with a group."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def carry(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with self.scope:
                await work()
        finally:
            self.ended.set()


class RequestsInFlight:
    """The requests that run beside the script, by the name of their group."""

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._companions: dict[str, list[_Companion]] = {}
        self._groups: dict[str, list[_Running]] = {}
        self._last_number = 0

    @asynccontextmanager
    async def allowed(self) -> AsyncIterator[None]:
        """Requests may run until the block is left, and none outlives it."""
        async with anyio.create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    async def start(
        self,
        name: str,
        asked: Sequence[Asked],
        *,
        connection: Connection,
        recorder: Recorder,
        step: str,
        until_running: bool,
        patience_s: float,
    ) -> None:
        """Send requests and return when each runs, or when the server has them, or after ``patience_s``."""
        if self._tasks is None:
            raise RuntimeError("requests may run only inside allowed()")
        group = self._groups[name] = []
        for each in asked:
            self._last_number += 1
            running = _Running(number=self._last_number)
            group.append(running)
            recorder.record(
                RequestStarted(
                    t=recorder.now(),
                    number=running.number,
                    step=step,
                    group=name,
                    prompt=each.prompt,
                    adapter=each.adapter,
                    reference=each.reference,
                )
            )
            self._tasks.start_soon(_carry, running, each.request, connection, recorder)
        with anyio.move_on_after(patience_s):
            for running in group:
                await (running.begun if until_running else running.accepted).wait()

    @property
    def any_running(self) -> bool:
        """Whether any request that was started has not been seen to its end."""
        return bool(self._groups)

    async def first_tokens(self, name: str, *, patience_s: float) -> bool:
        """Wait until each request of a group has its first token, has ended, or ``patience_s`` are over.

        Returns whether each was under way then.
        """
        group = self._groups[name]
        with anyio.move_on_after(patience_s):
            for running in group:
                await running.begun.wait()
        return all(running.begun.is_set() and not running.ended.is_set() for running in group)

    def accompany(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Let something else run with the group of this name: it is waited for, or given up, as that is."""
        if self._tasks is None:
            raise RuntimeError("requests may run only inside allowed()")
        companion = _Companion()
        self._companions.setdefault(name, []).append(companion)
        self._tasks.start_soon(companion.carry, work)

    async def finish(self, name: str, *, within_s: float, watch: Watch) -> int:
        """Return when all requests of a group have ended; those that have not in time are given up.

        So are all as soon as the engine is known to hang.  Returns how many were given up.
        """
        group = self._groups.pop(name)
        with watch.unless_it_hangs(), anyio.move_on_after(within_s):
            for running in group:
                await running.ended.wait()
                watch.vigil.answered()
            for companion in self._companions.get(name, ()):
                await companion.ended.wait()
                watch.vigil.answered()
        await self._dismiss(name)
        late = [running for running in group if not running.ended.is_set()]
        for running in late:
            running.given_up = (
                watch.failure
                if watch.hung
                else CallFailure(kind="timeout", message=f"did not end within {within_s:g} s")
            )
            running.scope.cancel()
        await _all_ended(group)
        return len(late)

    async def cancel(self, name: str) -> None:
        """Close the connections of a group's requests that have not ended by themselves."""
        group = self._groups.pop(name)
        for running in group:
            running.client_left = not running.ended.is_set()
            running.scope.cancel()
        await self._dismiss(name)
        await _all_ended(group)

    async def _dismiss(self, name: str) -> None:
        """Give up what still runs with a group."""
        companions = self._companions.pop(name, [])
        for companion in companions:
            companion.scope.cancel()
        for companion in companions:
            await companion.ended.wait()

    async def give_up_all(self) -> None:
        """Close the connections of whatever still runs, as for :meth:`cancel`."""
        for name in list(self._groups):
            await self.cancel(name)


async def _all_ended(group: Sequence[_Running]) -> None:
    for running in group:
        await running.ended.wait()


async def _carry(
    running: _Running, request: GenerationRequest, connection: Connection, recorder: Recorder
) -> None:
    """Carry one request to its end and record it, also when it is cut short."""

    def begun() -> None:
        recorder.record(RequestRunning(t=recorder.now(), number=running.number))
        running.begun.set()

    started = recorder.now()
    try:
        with running.scope:
            await stream(
                connection.openai,
                request,
                into=running.streamed,
                on_accepted=running.accepted.set,
                on_first_token=begun,
            )
    finally:
        recorder.record(_end_of(running, recorder, started))
        # Whoever waits for a beginning must not wait for one that cannot come.
        for event in (running.accepted, running.begun, running.ended):
            event.set()


def _end_of(running: _Running, recorder: Recorder, started: float) -> RequestEnded:
    now, streamed = recorder.now(), running.streamed
    return RequestEnded(
        t=now,
        number=running.number,
        token_ids=tuple(streamed.token_ids),
        text=streamed.text,
        finish_reasons=tuple(streamed.finish_reasons),
        tokens_after_end=streamed.tokens_after_end,
        completion_tokens=streamed.completion_tokens,
        cached_tokens=streamed.cached_tokens,
        client_left=running.client_left,
        seconds=now - started,
        failure=_failure(running),
    )


def _failure(running: _Running) -> CallFailure | None:
    error = running.streamed.error
    if error is None and not running.streamed.complete and not running.client_left:
        return running.given_up or CallFailure(kind="timeout", message="the cell ended before it did")
    return None if error is None else CallFailure(kind=error.kind, message=error.message, status=error.status)
