"""The process that judges: carries out one order after the other until nobody gives any more."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Mapping

import anyio
from pydantic import JsonValue, TypeAdapter

from harness.errors import SleepwakeError
from harness.guarding.asking import Line
from harness.guarding.endpoint import Endpoint, Together
from harness.guarding.guarded import Guarded
from harness.guarding.messages import Begin, Facts, NoticedCall

_CALLS: TypeAdapter[tuple[NoticedCall, ...]] = TypeAdapter(tuple[NoticedCall, ...])

_REFERENCE: TypeAdapter[Facts | None] = TypeAdapter(Facts | None)


def serve() -> None:
    """Carry out what comes in on standard input, and answer on standard output.

    It ends with its input.  Ctrl-C is for whoever holds the engine.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    line = Line(sys.stdin, os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
    sys.stdout = sys.stderr  # what anything prints is no message
    anyio.run(_serve, line)


def _end_with(parent: int) -> None:
    """End when the process that holds the engine does; what that one forked may keep our input open."""
    if hasattr(os, "pidfd_open"):
        select.select([os.pidfd_open(parent)], [], [])
        os._exit(1)


async def _serve(line: Line) -> None:
    """Blocks while it waits, for nothing else goes on here; the recorder needs an event loop's clock."""
    orders = Orders(line)
    while (order := line.hear()) is not None:
        try:
            line.say({"done": orders.carry_out(order)})
        except SleepwakeError as error:
            line.say({"refused": str(error)})
    orders.close()


class Orders:
    """What can be ordered."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._guarded: Guarded | None = None
        self._endpoint: Endpoint | None = None

    def carry_out(self, order: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """Carry one out, and return what came of it.

        Raises:
            SleepwakeError: it cannot be carried out.
        """
        given = {name: value for name, value in order.items() if name != "order"}
        if order["order"] == "meet":
            self._endpoint = Endpoint(str(given["endpoint"]))
            return {"facts": self._endpoint.facts().model_dump(mode="json")}
        if order["order"] == "is_asleep":
            return {"is_asleep": self._endpoint is not None and self._endpoint.is_asleep()}
        if order["order"] == "begin":
            holder = Together(self._endpoint, self._line) if self._endpoint else self._line
            self._guarded = Guarded(Begin.model_validate(given), holder)
            return {"directory": self._guarded.directory}
        if self._guarded is None:
            raise AssertionError("nothing is ordered before the order to begin")
        if order["order"] == "expect_new_weights":
            self._guarded.expect_new_weights(_REFERENCE.validate_python(given["reference"]))
            return {}
        told = self._guarded.check(_CALLS.validate_python(given["calls"]))
        return told.model_dump(mode="json")

    def close(self) -> None:
        """There are no more orders."""
        if self._guarded is not None:
            self._guarded.close()
