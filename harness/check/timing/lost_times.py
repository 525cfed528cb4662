"""Which times say nothing because the harness itself was stopped while they were taken.

A stop costs the times that overlap it and nothing else: answers are right or wrong whenever they are read,
and what was timed before and after it was timed as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.check.wording import counted
from harness.history.events import HarnessStopped
from harness.history.observations import Call
from harness.history.recording import Pass, Recording

NOTICED_LATE_S = 1.0
"""How long before it is measured to have begun a stop may have: nobody looks between two beats."""


@dataclass(frozen=True)
class LostTimes:
    """What overlaps a stop of the harness, of all that a recording times."""

    recording: Recording

    @cached_property
    def stops(self) -> tuple[HarnessStopped, ...]:
        """The stops that lasted; a clock that was set is none, for time is not taken by it."""
        return tuple(stop for stop in self.recording.stops if stop.seconds)

    def overlap(self, begin: float, end: float) -> bool:
        """Whether the harness was stopped at any time between two moments of the cell's clock."""
        return any(stop.t - stop.seconds - NOTICED_LATE_S <= end and begin <= stop.t for stop in self.stops)

    @cached_property
    def passes(self) -> frozenset[int]:
        """The passes whose times are lost, by number."""
        lost = (each for each in self.recording.passes if self.stops and self.overlap(*_lasted(each)))
        return frozenset(each.number for each in lost)

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The calls whose times are lost."""
        return tuple(
            call
            for call in self.recording.calls
            if self.stops and self.overlap(call.t - call.seconds, call.t)
        )

    @property
    def unanswered_calls(self) -> tuple[Call, ...]:
        """Those among them that had no answer in time, which the stop explains."""
        return tuple(call for call in self.calls if call.failure and call.failure.kind == "timeout")

    @property
    def stopped(self) -> str:
        """For how long the harness was stopped, in words."""
        suspended = sum(stop.suspended_seconds for stop in self.stops)
        how = f", for {suspended:.0f} s with its machine" if suspended >= 1 else ""
        return f"sleepwake itself was stopped for {sum(stop.seconds for stop in self.stops):.0f} s{how}"

    @property
    def sentence(self) -> str:
        """What was not judged by time; empty where the harness was not stopped."""
        if not self.stops:
            return ""
        lost = " and ".join(self._counted())
        cost = f"the times of {lost} are not judged" if lost else "it cost no time that is judged"
        return f"{self.stopped}; {cost}"

    def _counted(self) -> Iterator[str]:
        if self.passes:
            yield counted(len(self.passes), "pass", "passes")
        if self.calls:
            yield counted(len(self.calls), "call")


def _lasted(each: Pass) -> tuple[float, float]:
    """From the beginning of a pass to its last answer."""
    return each.start.t, max((answer.t for answer in each.answers.values()), default=each.start.t)
