"""Whether an engine gets slower from cycle to cycle."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.check.checkers.speed import check, each_cycle
from harness.check.result import Cause, Finding, Strength, Verdict
from harness.history.observations import Call
from harness.history.passes import Method, RequestRunning, RequestStarted
from tests.check.stories import COLD, Change, Story, updated

NAMES = ["p0", "p1", "p2", "p3"]
RISING = [1.0 + 0.2 * cycle for cycle in range(20)]
FLAT = [1.0] * 20


def lasting(seconds: float) -> dict[str, Change]:
    """All answers take so long."""
    return dict.fromkeys(NAMES, updated(seconds=seconds))


def cycles(
    wake: list[float],
    *,
    sleep: list[float] | None = None,
    answers: list[float] | None = None,
    mode: str | None = None,
) -> Story:
    """Cycles whose calls and answers take so long, seconds."""
    story = Story(held_out=0).baseline().null()
    for number, took in enumerate(wake):
        story.sleep()
        slow_down(story, (sleep or FLAT)[number], mode=mode)
        story.wake()
        slow_down(story, took)
        every = lasting((answers or FLAT)[number])
        story.probe(number + 1, warm=every, cold=every)
    return story


def slow_down(story: Story, seconds: float, *, mode: str | None = None) -> None:
    """Let the last call have taken so long."""
    at = max(number for number, event in enumerate(story.events) if event.kind == "call")
    call = story.events[at]
    assert isinstance(call, Call)
    parameters = dict(call.parameters) | ({"mode": mode} if mode else {})
    story.events[at] = call.model_copy(update={"seconds": seconds, "parameters": parameters})


def findings(story: Story) -> list[Finding]:
    """What gets slower in a story."""
    return list(check(story.evidence()))


def test_steady_cycles_have_no_finding() -> None:
    """Twenty cycles that take equally long."""
    assert findings(cycles(FLAT)) == []


def test_a_wake_up_that_gets_slower_each_cycle_is_found() -> None:
    """It is told with the first third of the cycles and the last."""
    [finding] = findings(cycles(RISING))
    assert finding.message == (
        "waking up takes longer from cycle to cycle: 1700 ms in the first third of 20 cycles, "
        "4300 ms in the last"
    )
    assert (finding.checker, finding.strength) == ("speed", Strength.PROOF)
    assert finding.evidence["seconds"] == RISING


def test_a_sleep_that_gets_slower_each_cycle_is_found() -> None:
    """With its level."""
    [finding] = findings(cycles(FLAT, sleep=RISING))
    assert finding.message.startswith("falling asleep (level 1) takes longer from cycle to cycle")


def test_a_sleep_that_waits_takes_as_long_as_requests_do() -> None:
    """That is no time of its own."""
    assert findings(cycles(FLAT, sleep=RISING, mode="wait")) == []


def test_an_engine_that_gets_slower_is_degraded() -> None:
    """Answers hold, and the cause is speed."""
    result = cycles(RISING).judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SPEED)


def test_answers_that_get_slower_are_found() -> None:
    """In every condition they are asked under."""
    found = [each.message for each in findings(cycles(FLAT, answers=RISING))]
    assert [message.partition(" takes")[0] for message in found] == [
        "a generated token (the model, 4 at a time, warm)",
        "a generated token (the model, 4 at a time, cold)",
    ]


def test_calls_must_slow_down_by_more_than_answers() -> None:
    """Where everything does the machine may be busy, and the answers tell it already."""
    found = findings(cycles(RISING, answers=RISING))
    assert all("token" in each.message for each in found)


@pytest.mark.parametrize("count", [7, 8])
def test_too_few_cycles_tell_nothing(count: int) -> None:
    """It takes eight."""
    assert len(findings(cycles([1.0, *(2.0**number for number in range(count - 1))]))) == int(count == 8)


def test_one_jump_is_a_busy_machine() -> None:
    """Another tenant came and stayed; a growth goes on."""
    assert findings(cycles([1.0] * 13 + [3.0] * 7)) == []


def test_little_is_a_busy_machine() -> None:
    """Less than half a second is what any machine may need for something else."""
    assert findings(cycles([each / 10 for each in RISING])) == []


def test_a_slow_first_cycle_hides_nothing() -> None:
    """An engine warms up in it."""
    assert len(findings(cycles([90.0, *RISING[1:]]))) == 1


def test_prompts_that_are_only_read_tell_how_long_a_first_token_takes() -> None:
    """Scoring decodes nothing."""
    story = Story(held_out=0, methods=(Method.SCORED,)).baseline().null()
    for number, took in enumerate(RISING):
        story.sleep().wake().probe(number + 1, others={Method.SCORED: lasting(took)})
    [finding] = findings(story)
    assert finding.message.startswith(f"reading a prompt (the model, 4 at a time, {COLD.value}) takes longer")


@pytest.mark.parametrize(("asleep", "found"), [(False, 1), (True, 0)])
def test_a_first_token_that_comes_later_each_cycle_is_found(*, asleep: bool, found: int) -> None:
    """Where no transition came in between: who waits for a sleeping engine waits for the script."""
    story = Story(held_out=0).baseline().null()
    for number in range(20):
        story.sleep().wake()
        step = story._begin("start_requests", name="flood")
        began = story.now()
        story.tell(RequestStarted(t=began, number=number, step=step, group="flood", prompt="p0"))
        if asleep:
            story._begin("sleep", level=1)
        story.tell(RequestRunning(t=began + 0.05 + 0.045 * number + 4 * asleep, number=number))
    assert len(findings(story)) == found


@given(st.integers(), st.integers(min_value=8, max_value=24))
def test_noise_without_a_trend_rarely_alarms(seed: int, count: int) -> None:
    """A shuffled series, then the same one backwards: both cannot rise."""
    values = [random.Random(seed + number).uniform(0.2, 4.0) for number in range(count)]  # noqa: S311  # no secret
    series = [
        each_cycle.Duration(step=str(number), seconds=each, within=each) for number, each in enumerate(values)
    ]
    backwards = [series[0], *reversed(series[1:])]
    both = (each_cycle._grows(each, usual=1.0, alpha=1e-3) for each in (series, backwards))
    assert not all(both)
