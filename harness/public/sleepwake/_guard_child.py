"""The guard's own process, as the user's process sees it: one line of JSON a message, both ways.

It has the harness, which the user's process need not have: it writes the history and judges.  It ends when
its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

_PATIENCE_S = 30.0
"""How long it may take to end; it has nothing left to do then."""


class GuardError(Exception):
    """The guard cannot do what it was asked; it says nothing about the engine."""


class Child:
    """Takes orders, one at a time; to carry one out it asks questions back."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sleepwake._guard_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._is_busy = False

    def carry_out(
        self, order: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Give an order, answer what is asked, and return what came of it.

        Raises:
            GuardError: it is refused, or the process is gone.
            BaseException: whatever ``answer`` raises.
        """
        message = self.begin(order)
        while "ask" in message:
            try:
                reply = answer(message)
            except BaseException as error:
                self.fail(error)
                raise
            message = self.say(reply)
        return self.end_of(message)

    async def carry_out_and_wait(
        self,
        order: Mapping[str, Any],
        answer: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]],
    ) -> dict[str, Any]:
        """Do the same in an event loop, which goes on while the process works.

        Raises:
            GuardError: it is refused, or the process is gone.
            BaseException: whatever ``answer`` raises.
        """
        message = await asyncio.to_thread(self.begin, order)
        while "ask" in message:
            try:
                reply = await answer(message)
            except BaseException as error:
                self.fail(error)
                raise
            message = await asyncio.to_thread(self.say, reply)
        return self.end_of(message)

    def begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give an order, and return what is said to it.

        Raises:
            GuardError: the last order did not come to its end, or the process is gone.
        """
        if self._is_busy:
            raise GuardError("the last call was interrupted: make a new guard")
        self._is_busy = True
        return self.say(order)

    def fail(self, error: BaseException) -> None:
        """Say that a question has no answer, which ends the order."""
        self.say({"failed": f"{type(error).__name__}: {error}"})
        self._is_busy = False

    def end_of(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """What came of an order, as its last message says.

        Raises:
            GuardError: it is refused.
        """
        self._is_busy = False
        if "refused" in message:
            raise GuardError(message["refused"])
        done: dict[str, Any] = message["done"]
        return done

    def say(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Say something, and return what is said to it."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None and out is not None  # noqa: PT018, S101 - both are pipes
        try:
            into.write(json.dumps(message) + "\n")
            into.flush()
            line = out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise GuardError(f"the guard's own process ended with {self._process.wait()}: make a new guard")
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self) -> None:
        """Let it end."""
        with self._process as process:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            try:
                process.stdin.close()
                process.wait(_PATIENCE_S)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                process.kill()
