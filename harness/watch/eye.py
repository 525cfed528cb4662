"""Looks at a server again and again, takes in what happened, and gives up what that disturbs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from harness.errors import InfrastructureError
from harness.vllm_api.connection import Connection
from harness.watch.looking import Look, Looker
from harness.watch.noticing import NOTHING, Happening, notice, remembering
from harness.watch.record import WatchRecord
from harness.watch.status import Status

Tell: TypeAlias = Callable[[str], None]


@dataclass(kw_only=True, eq=False)
class Eye:
    """What is seen of one server.

    Attributes:
        connection: The way to it.
        every_s: From one look to the next.
        status: Takes in what is seen.
        record: Remembers how many wake-ups there were.
        tell: Is told every sentence.
        seen: The last look that told anything.
    """

    connection: Connection
    every_s: float
    status: Status
    record: WatchRecord
    tell: Tell
    seen: Look = field(default_factory=lambda: Look(answers=False))

    def __post_init__(self) -> None:
        self._looker = Looker(self.connection.http)

    async def look(self) -> bool:
        """Look once, and take in what happened; return whether nothing can be asked or judged now."""
        now = await self._looker.look()
        if now.answers != self.status.answers:
            said = "answers again" if now.answers else "does not answer"
            self.tell(f"{self.connection.base_url} {said}")
        self.status.answers = now.answers
        if not now.answers:
            return True
        before, self.seen = self.seen, remembering(self.seen, now)
        happened = notice(before, self.seen) if before.answers else NOTHING
        if now.rests != self.status.rests:
            self.tell("the engine rests" if now.rests else "the engine is awake")
        self.status.rests = now.rests
        if happened:
            self.take_in(happened)
        return bool(happened) or now.rests

    def take_in(self, happened: Happening) -> None:
        """Something happened that is still to be judged."""
        self.status.take_in(happened, now=time.time())
        if self.record.watched.wake_ups != self.status.wake_ups:
            self.record.note(wake_ups=self.status.wake_ups)

    def meets_another(self) -> None:
        """Another process answers now, which may have what the last one lacked."""
        self._looker.forget()

    async def undisturbed(self, body: Callable[[], Awaitable[None]]) -> bool:
        """Whether ``body`` came to its end and nothing happened; once something does, it is given up.

        Raises:
            InfrastructureError: ``body`` raised it although the server is as it was.
        """
        disturbed = False
        failure: InfrastructureError | None = None

        async def keep_looking(scope: anyio.CancelScope) -> None:
            nonlocal disturbed
            while not disturbed:
                await anyio.sleep(self.every_s)
                disturbed = await self.look()
            scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(keep_looking, group.cancel_scope)
                await body()
                group.cancel_scope.cancel()
        except* InfrastructureError as errors:
            failure = _first(errors)
        if disturbed or await self.look():
            return False
        if failure is not None:
            raise failure
        return True

    @property
    def why_given_up(self) -> str:
        """What came in between."""
        if not self.status.answers:
            return "the server does not answer"
        if self.status.rests:
            return "the engine rests again"
        return f"meanwhile: {self.status.pending.words}"


def _first(errors: BaseExceptionGroup[InfrastructureError]) -> InfrastructureError:
    """One error out of those that concurrent tasks raised together, which share a cause."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
