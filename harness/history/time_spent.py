"""Where a cell's time went: a pure function of the moments its history holds.

The time between two events belongs to what went on between them, so the parts add up to
the whole exactly: to the moment of the last event.  They are whole milliseconds, as sums of
binary fractions are not exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from harness.history.events import CellFailed, CellFinished, CellStarted, CellUnavailable, Event, ServerReady
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import PassStarted, PromptsPrepared, Role, TokenTexts
from harness.history.time_parts import Part, TimeSpent


def time_spent(events: Iterable[Event]) -> TimeSpent:
    """Say where the time from the start of a cell to the last of ``events`` went.

    What the harness does while answers are on their way cannot be told from waiting for them and
    counts as the probe's; so does ``boot`` hold everything up to a failure to start.
    """
    spent: Counter[Part] = Counter()
    course = _Course()
    recorded = list(events)
    # Answers that come at the same time may be stored in another order than they were stamped.
    moments = accumulate((milliseconds(event.t) for event in recorded), max)
    before = 0
    for event, moment in zip(recorded, moments, strict=True):
        passed, before = moment - before, moment
        if isinstance(event, ServerReady):
            booting = min(passed, milliseconds(event.boot_seconds))
            spent["boot"] += booting
            spent["preparation"] += passed - booting
        else:
            spent[course.led_to(event)] += passed
        course.follow(event)
    return TimeSpent.model_validate(spent)


def milliseconds(seconds: float) -> int:
    """A duration in seconds as whole milliseconds."""
    return round(seconds * 1000)


_PART_OF_ROLE: dict[Role, Part] = {
    Role.BASELINE: "baseline",
    Role.NULL: "null_transitions",
    Role.AFTER: "probes",
    Role.CONTROL: "controls",
}


class _Course:
    """What goes on in a cell while its events are read in order."""

    def __init__(self) -> None:
        self._now: Part = "harness"
        self._has_baseline = False
        self._has_transition = False

    def led_to(self, event: Event) -> Part:
        """What the time just before ``event`` was spent on."""
        if isinstance(event, TokenTexts):
            return "controls"  # asked for because of them, and ahead of them
        if isinstance(event, CellFinished) and self._now in {"harness", "preparation"}:
            return "shutdown"
        return self._now

    def follow(self, event: Event) -> None:
        """Note what goes on from ``event`` on."""
        match event:
            case CellStarted():
                self._now = "boot"
            case ServerReady():
                self._now = "preparation"
            case StepStarted():
                self._now = self._part_of_step(event)
            case PassStarted() if self._now != "controls":
                self._now = _PART_OF_ROLE[event.role]
            case TokenTexts():
                self._now = "controls"
            case PromptsPrepared() | StepFinished() | CellUnavailable() | CellFinished() | CellFailed():
                self._now = "harness"
            case _:
                pass

    def _part_of_step(self, step: StepStarted) -> Part:
        if step.action == "null_transition":
            return "null_transitions"
        if step.action != "probe":
            self._has_transition = True
            return "transitions"
        if not self._has_baseline:
            self._has_baseline = True
            return "baseline"
        return "probes" if self._has_transition else "null_transitions"
