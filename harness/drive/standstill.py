"""Tells a hang from slowness while answers are waited for: by what the engine does, not by the clock.

Once a second somebody looks at the engine's counters and at what its processes do.  An engine *hangs* when,
with requests waiting, no counter moves, no answer comes, its processes use next to no processor time and none
of their threads wants any, all of that for :data:`STILL_S`.  An engine that is starved by others wants the
processor; one that computes for long uses it: neither hangs, however late its answers are.

Where the processes cannot be seen, counters alone prove nothing, as a long step moves none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import anyio

from harness.drive.recorder import Recorder
from harness.history.event_base import CallFailure
from harness.history.passes import Waited
from harness.servers.base import Activity, Engine, Server
from harness.vllm_api.connection import Connection
from harness.vllm_api.metrics import MetricsSnapshot, read_metrics

LOOK_S = 1.0
"""From one look to the next."""

STILL_S: Mapping[Engine, float] = MappingProxyType({"cpu": 10.0, "gpu": 30.0, "unknown": 30.0})
"""How long an engine must stand still: one that waits for a GPU, as an unknown one may, uses no processor."""

IDLE_CORES = 0.1
"""What processes that wait for nothing but requests use at the most: our own looks cost them a little."""

LATE_S = 2.0
"""A look that comes or takes so much longer than it should tells of a busy machine, not of the engine."""

_METRICS_DEADLINE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is seen of an engine at a moment.

    Attributes:
        t: When, in seconds.
        late: Whether the look came late, or was answered slowly: then nothing is known of the time before.
        counters: What the engine counts; None where it did not tell.
        activity: What its processes do; None where they cannot be seen.
    """

    t: float
    late: bool = False
    counters: MetricsSnapshot | None = None
    activity: Activity | None = None


class Vigil:
    """Draws conclusions from looks.  Knows no clock but theirs."""

    def __init__(self, *, limit_s: float) -> None:
        self._limit_s = limit_s
        self._looks: list[Look] = []
        self._moved_at = 0.0
        self._counted_at = 0.0
        self._answers = 0
        self._answers_seen = 0
        self._sees_processes = True

    def answered(self) -> None:
        """An answer has come."""
        self._answers += 1

    def see(self, look: Look) -> None:
        """Take in the next look."""
        before = self._looks[-1] if self._looks else None
        self._looks = [*self._looks[:1], look]
        self._sees_processes = self._sees_processes and look.activity is not None
        has_answered, self._answers_seen = self._answers != self._answers_seen, self._answers
        if before is None or look.late or has_answered or _has_counted(before, look):
            self._moved_at = self._counted_at = look.t
        elif _is_busy(before, look):
            self._moved_at = look.t

    @property
    def still_s(self) -> float | None:
        """For how long nothing at all has happened; None where that cannot be seen."""
        return self._looks[-1].t - self._moved_at if self._looks and self._sees_processes else None

    @property
    def hangs(self) -> bool:
        """Whether the engine is proven to stand still."""
        return self.still_s is not None and self.still_s >= self._limit_s

    def waited(self, *, t: float, step: str | None, pass_number: int | None, tokens: int) -> Waited:
        """What was seen, for the history; all that was asked takes so many ``tokens``."""
        if not self._looks:
            return Waited(t=t, step=step, pass_number=pass_number, seconds=0.0)
        first, last = self._looks[0], self._looks[-1]
        seconds, counted = last.t - first.t, _generated(first, last)
        return Waited(
            t=t,
            step=step,
            pass_number=pass_number,
            seconds=seconds,
            still_seconds=self.still_s,
            counters_still_seconds=last.t - self._counted_at,
            generated_tokens=counted,
            cpu_seconds=last.activity.cpu_seconds - first.activity.cpu_seconds
            if first.activity and last.activity
            else None,
            would_take_seconds=seconds * tokens / counted if counted else None,
        )


def _generated(first: Look, last: Look) -> int | None:
    """How many tokens the engine counted between two looks."""
    if first.counters is None or last.counters is None:
        return None
    before, after = first.counters.generation_tokens, last.counters.generation_tokens
    return None if before is None or after is None else after - before


def _has_counted(before: Look, look: Look) -> bool:
    if before.counters is None or look.counters is None:
        return False
    return before.counters.work != look.counters.work


def _is_busy(before: Look, look: Look) -> bool:
    if look.activity is None or before.activity is None:
        return False
    used = look.activity.cpu_seconds - before.activity.cpu_seconds
    return look.activity.wants_cpu or used >= IDLE_CORES * (look.t - before.t)


@dataclass(kw_only=True)
class Watch:
    """Requests that are waited for, and an engine that is looked at meanwhile."""

    vigil: Vigil
    hung: bool = False
    _waiting: set[anyio.CancelScope] = field(default_factory=set)

    @contextmanager
    def unless_it_hangs(self) -> Iterator[anyio.CancelScope]:
        """Give the block up as soon as the engine is known to hang; the scope says whether it was."""
        with anyio.CancelScope() as scope:
            if self.hung:
                scope.cancel()
            self._waiting.add(scope)
            try:
                yield scope
            finally:
                self._waiting.discard(scope)

    def give_up(self) -> None:
        """The engine hangs: nobody waits any longer."""
        self.hung = True
        for scope in self._waiting:
            scope.cancel()

    @property
    def failure(self) -> CallFailure:
        """Why a request that was given up has no answer."""
        return CallFailure(
            kind="hang",
            message=f"the engine stood still for {self.vigil.still_s or 0:.0f} s: nothing was counted or "
            "answered, and its processes did nothing",
        )


@asynccontextmanager
async def watched(server: Server, connection: Connection, recorder: Recorder) -> AsyncIterator[Watch]:
    """Look at the engine again and again as long as the block runs."""
    watch = Watch(vigil=Vigil(limit_s=STILL_S[server.facts.engine]))
    async with anyio.create_task_group() as group:
        group.start_soon(_keep_looking, watch, server, connection, recorder)
        yield watch
        group.cancel_scope.cancel()


async def _keep_looking(watch: Watch, server: Server, connection: Connection, recorder: Recorder) -> None:
    while not watch.hung:
        due = recorder.now() + LOOK_S
        await anyio.sleep(LOOK_S)
        began = recorder.now()
        # Before the engine is asked for its counters, which gives its processes something to do.
        activity = await server.look_at_activity()
        reading = await read_metrics(connection.http, deadline_s=_METRICS_DEADLINE_S)
        slowly = reading.snapshot is not None and reading.seconds > LATE_S
        late = began - due > LATE_S or slowly
        watch.vigil.see(Look(t=began, late=late, counters=reading.snapshot, activity=activity))
        if watch.vigil.hangs:
            watch.give_up()
