"""Where a cell's time went: a pure function of the moments its history holds.

The time between two events belongs to what went on between them, so the parts add up to
the whole exactly: to the moment of the last event.  They are whole milliseconds, as sums of
binary fractions are not exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

from harness.history.events import CellFailed, CellFinished, CellStarted, CellUnavailable, Event, ServerReady
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import PassStarted, PromptsPrepared, Role, TokenTexts

Part = Literal[
    "boot",
    "preparation",
    "baseline",
    "null_transitions",
    "transitions",
    "probes",
    "controls",
    "shutdown",
    "judging",
    "harness",
]
"""The fields of :class:`TimeSpent`, in the order they happen."""
PARTS: tuple[Part, ...] = get_args(Part)


class TimeSpent(BaseModel):
    """Milliseconds by what they were spent on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot: int = Field(default=0, ge=0, description="from asking for a server until it is ready")
    preparation: int = Field(
        default=0, ge=0, description="asking the server what it is, tokenizing the prompts"
    )
    baseline: int = Field(default=0, ge=0, description="the first probe, including the warm-up of the engine")
    null_transitions: int = Field(default=0, ge=0, description="measuring the noise")
    transitions: int = Field(default=0, ge=0, description="sleeping, waking and everything else under test")
    probes: int = Field(default=0, ge=0, description="what is judged")
    controls: int = Field(default=0, ge=0, description="questions about the cause of a difference")
    shutdown: int = Field(default=0, ge=0, description="stopping the server")
    judging: int = Field(default=0, ge=0, description="from a recording to its verdict")
    harness: int = Field(
        default=0, ge=0, description="sleepwake's own: before the first cell and between steps"
    )

    @property
    def whole(self) -> int:
        """All parts together."""
        return sum(self.of(part) for part in PARTS)

    def of(self, part: Part) -> int:
        """One part by its name."""
        spent: int = getattr(self, part)
        return spent

    def __add__(self, other: TimeSpent) -> Self:
        return type(self).model_validate({part: self.of(part) + other.of(part) for part in PARTS})


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
