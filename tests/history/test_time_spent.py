"""Where a cell's time went."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from harness.history.events import CellFailed, CellFinished, Event, ServerReady
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import Answer, CacheCondition, PassStarted, PromptsPrepared, Role, TokenTexts
from harness.history.time_parts import PARTS, TimeSpent
from harness.history.time_spent import milliseconds, time_spent
from tests.history.begun import step_started
from tests.history.strategies import cell_started, events


@dataclass
class Cell:
    """A history written down event by event, with the seconds that pass before each."""

    t: float = 0.0
    events: list[Event] = field(default_factory=lambda: [cell_started()])

    def after(self, seconds: float, event: Event) -> Cell:
        """Let time pass, then something happen."""
        self.t += seconds
        self.events.append(event.model_copy(update={"t": self.t}))
        return self

    def step(self, action: str, seconds: float) -> Cell:
        """A step in which nothing is recorded."""
        return self.after(0.001, start_of(action)).after(seconds, END)


def start_of(action: str) -> StepStarted:
    """A step begins."""
    return step_started(t=0, step="1", action=action, options={}, cycle=0)


def start_of_pass(role: Role) -> PassStarted:
    """A pass begins."""
    return PassStarted(
        t=0, number=1, step="1", probe="p", role=role, cache=CacheCondition.WARM, concurrency=1, cycle=0
    )


END = StepFinished(t=0, step="1", seconds=0)
READY = ServerReady(t=0, runtime="process", command="", vllm_version=None, boot_seconds=20)
PREPARED = PromptsPrepared(t=0, prompts=())
FINISHED = CellFinished(t=0)
FAILED = CellFailed(t=0, error="ServerBootError", cause="", remedy="")


@given(st.lists(events(), max_size=30))
def test_the_parts_add_up_to_the_last_moment(course: list[Event]) -> None:
    """Whatever was recorded in whatever order, not a millisecond is lost or counted twice."""
    last = max((milliseconds(event.t) for event in course), default=0)
    spent = time_spent(course)
    assert spent.whole == sum(spent.of(part) for part in PARTS) == last


@given(st.lists(events(), max_size=10), st.lists(events(), max_size=10))
def test_times_add_up_part_by_part(one: list[Event], other: list[Event]) -> None:
    """The time of a run is that of its cells, in every part."""
    first, second = time_spent(one), time_spent(other)
    assert (first + second).whole == first.whole + second.whole
    assert all((first + second).of(part) == first.of(part) + second.of(part) for part in PARTS)


def test_every_part_is_what_went_on() -> None:
    """A cell from its boot to its server's end, with controls asked after a difference."""
    cell = Cell().after(23, READY).after(1, PREPARED)
    cell.step("probe", 10).step("null_transition", 5).step("probe", 2).step("sleep", 3).step("wake_up", 4)
    cell.after(0.001, start_of("probe")).after(1, start_of_pass(Role.AFTER)).after(
        6, TokenTexts(t=0, texts={})
    )
    cell.after(7, start_of_pass(Role.CONTROL)).after(8, END).after(9, FINISHED)

    assert time_spent(cell.events) == TimeSpent(
        boot=20_000,
        preparation=4_000,
        baseline=10_000,
        null_transitions=7_000,
        transitions=7_000,
        probes=1_000,
        controls=21_000,
        shutdown=9_000,
        harness=6,
    )


def test_a_pass_says_what_its_probe_is_for() -> None:
    """An answer within a pass belongs to the role of the pass."""
    answer = Answer(t=0, pass_number=1, prompt="p0", seconds=1)
    cell = Cell().after(0, PREPARED).step("sleep", 1)
    cell.after(0, start_of("probe")).after(0, start_of_pass(Role.NULL)).after(2, answer)
    assert time_spent(cell.events) == TimeSpent(harness=1, transitions=1_000, null_transitions=2_000)


def test_a_server_that_never_came_was_booting() -> None:
    """All the time up to a failure to start is the boot's."""
    assert time_spent(Cell().after(600, FAILED).events) == TimeSpent(boot=600_000)
