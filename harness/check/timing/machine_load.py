"""How busy others kept the machine while something was timed.

What is held against each other must have been timed while the machine was ours: an engine that lacks the
processor is as slow as one that is broken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.history.events import MachineLoad
from harness.history.observations import Call
from harness.history.recording import Recording

BUSY = 0.1
"""The part of all processors that others may use while something is timed."""

HELD_BACK_MORE = 0.1
"""How much more of the time a control group may be held back than while the times before were taken."""


@dataclass(frozen=True)
class Windows:
    """Some stretches of time, and how busy the machine was in them; none are known of old histories."""

    loads: tuple[MachineLoad, ...]

    @classmethod
    def of(cls, several: Iterable[Windows]) -> Windows:
        """All of ``several`` together."""
        return cls(tuple(load for each in several for load in each.loads))

    @property
    def others(self) -> float | None:
        """The part of all processors that others used, on average; None where it was not seen."""
        available = sum(load.seconds * load.cores for load in self.loads)
        if not available:
            return None
        others = sum(load.others_seconds for load in self.loads)
        return min(1.0, max(0.0, others / available))

    @property
    def held_back(self) -> float:
        """The part of the time that our control group was held back."""
        seconds = sum(load.seconds for load in self.loads)
        held = sum(load.throttled_seconds or 0.0 for load in self.loads)
        return min(1.0, held / seconds) if seconds else 0.0


NOT_SEEN = Windows(())
"""Nobody knows how busy the machine was."""


def of_passes(recording: Recording, numbers: Collection[int]) -> Windows:
    """How busy the machine was during these passes."""
    return Windows(tuple(load for load in recording.loads if load.pass_number in numbers))


def of_calls(recording: Recording, calls: Iterable[Call]) -> Windows:
    """How busy it was during these calls."""
    return of_stretches(recording, ((call.t - call.seconds, call.t) for call in calls))


def of_stretches(recording: Recording, stretches: Iterable[tuple[float, float]]) -> Windows:
    """How busy it was between these moments, as far as it was looked at for their sake."""
    alone = [load for load in recording.loads if load.pass_number is None]
    return Windows(
        tuple(
            load
            for begin, end in stretches
            for load in alone
            if load.t - load.seconds <= begin and end <= load.t
        )
    )
