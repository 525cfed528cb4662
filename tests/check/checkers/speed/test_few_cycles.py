"""Whether a sleep or a wake-up takes longer in every one of a few cycles."""

from __future__ import annotations

import pytest

from harness.check.checkers.speed import check
from harness.check.result import Cause, Finding, Strength, Verdict
from harness.history.events import HarnessStopped
from harness.history.observations import Call
from tests.check.stories import Change, Story, updated

NAMES = ["p0", "p1", "p2", "p3"]


def cycles(
    wake: list[float],
    *,
    sleep: list[float] | None = None,
    answers: list[float] | None = None,
    repeated: bool = True,
    mode: str = "abort",
) -> Story:
    """Cycles of a repetition, whose calls and answers take so long, seconds."""
    story = Story(held_out=0).baseline().null()
    for number, took in enumerate(wake):
        every: dict[str, Change] = dict.fromkeys(NAMES, updated(seconds=answers[number] if answers else 1.0))
        story.cycle(number + 1, warm=every, cold=every)
        for path, seconds in (("/sleep", sleep[number] if sleep else 1.0), ("/wake_up", took)):
            _place(story, path, seconds, cycle=number + 1 if repeated else 0, mode=mode)
    return story


def _place(story: Story, path: str, seconds: float, *, cycle: int, mode: str) -> None:
    """Let the last call of this path have taken so long, in this cycle of a repetition."""
    at = max(at for at, each in enumerate(story.events) if isinstance(each, Call) and each.path == path)
    call = story.events[at]
    assert isinstance(call, Call)
    name = f"9[{cycle}].{path}" if cycle else path
    for number, event in enumerate(story.events):
        if getattr(event, "step", None) == call.step:
            changes: dict[str, object] = {"step": name}
            if event.kind == "step_started":
                changes["cycle"] = cycle
            if isinstance(event, Call):
                changes |= {"seconds": seconds, "parameters": {**event.parameters, "mode": mode}}
            story.events[number] = event.model_copy(update=changes)


def findings(story: Story) -> list[Finding]:
    """What is slow in a story."""
    return list(check(story.evidence()))


def test_wake_ups_that_take_longer_in_every_cycle_are_found() -> None:
    """All of them are told, and the cause is speed."""
    story = cycles([1.3, 2.0, 2.7])
    [finding] = findings(story)
    assert finding.message == "waking up takes longer in every cycle: 1.3 s, 2.0 s, 2.7 s"
    assert (finding.strength, finding.cycle) == (Strength.PROOF, 3)
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SPEED)


def test_sleeps_that_take_longer_in_every_cycle_are_found() -> None:
    """With their level; one that waits for requests takes as long as they do."""
    [finding] = findings(cycles([1.0] * 3, sleep=[1.0, 2.0, 3.0]))
    assert finding.message == "falling asleep (level 1) takes longer in every cycle: 1.0 s, 2.0 s, 3.0 s"
    assert findings(cycles([1.0] * 3, sleep=[1.0, 2.0, 3.0], mode="wait")) == []


@pytest.mark.parametrize(
    "healthy",
    [
        [1.0, 1.0, 1.0],
        [1.0, 3.0, 2.9],
        [3.0, 1.0, 9.0],
        [1.0, 3.0, 3.1],
        [0.1, 0.5, 1.0],
        [4.0, 4.6, 5.5],
        [1.0, 3.0],
    ],
    ids=["steady", "no rise", "a dip", "a jump", "too little", "by too small a factor", "too few"],
)
def test_a_healthy_engine_is_silent(healthy: list[float]) -> None:
    """Every cycle must add to it, and all of them much."""
    assert findings(cycles(healthy)) == []


def test_calls_must_slow_down_by_more_than_the_machine_did() -> None:
    """The slowest pass took 1.4 times as long as the fastest that asked the same, so that 1.7 is no proof."""
    assert findings(cycles([2.0, 2.6, 3.4], answers=[1.0, 1.4, 1.2])) == []
    assert len(findings(cycles([2.0, 2.6, 3.4], answers=[1.0, 1.1, 1.2]))) == 1


def test_steps_beside_a_repetition_are_not_alike() -> None:
    """A script may do more each time, and wake up from more."""
    assert findings(cycles([1.3, 2.0, 2.7], repeated=False)) == []


def test_a_call_during_a_stop_does_not_count() -> None:
    """Two are left, and two are too few."""
    story = cycles([1.3, 2.0, 2.7])
    last = [call for call in story.recording().calls if call.path == "/wake_up"][-1]
    assert findings(story.tell(HarnessStopped(t=last.t, seconds=1.0))) == []
