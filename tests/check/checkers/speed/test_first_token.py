"""Whether a request that is alone waits longer for its first token."""

from __future__ import annotations

import pytest

from harness.check.checkers.speed import check
from harness.check.result import Cause, Finding, Strength, Verdict
from harness.history.events import FirstTokensTimed, HarnessStopped
from tests.check.stories import Story

USUAL = (0.9, 0.2, 0.2)
"""Kernels are compiled for the first request."""
SLOW = (0.6, 0.5, 0.55)


def timed(story: Story, *seconds: float) -> Story:
    """Time first tokens now."""
    return story.tell(FirstTokensTimed(t=story.now(), step="1", prompt="p0", seconds=seconds))


def cycles(*after: tuple[float, ...], before: tuple[float, ...] = USUAL) -> Story:
    """Cycles after each of which first tokens took so long."""
    story = timed(timed(Story().baseline(), *before).null(), *before)
    for number, seconds in enumerate(after, start=1):
        timed(story.cycle(number), *seconds)
    return story


def findings(story: Story) -> list[Finding]:
    """What is slow in a story."""
    return list(check(story.evidence()))


def test_first_tokens_that_always_take_longer_are_found() -> None:
    """The fastest of all is held against what was usual before, and the cause is speed."""
    story = cycles(SLOW, SLOW)
    [finding] = findings(story)
    assert finding.message == (
        "a request that is alone waits 0.50 s for its first token after the transition, "
        "at the least of 2 times, and 0.20 s before it"
    )
    assert finding.strength is Strength.PROOF
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SPEED)


@pytest.mark.parametrize(
    "after",
    [(USUAL, USUAL), (SLOW, (0.6, 0.25, 0.6)), (SLOW,), ((0.34, 0.34), (0.34, 0.34))],
    ids=["as before", "one as fast as before", "one time", "too little"],
)
def test_a_healthy_engine_is_silent(after: tuple[tuple[float, ...], ...]) -> None:
    """Every single one must be slower, more than once, by half and by much."""
    assert findings(cycles(*after)) == []


def test_half_as_long_again_is_what_it_takes() -> None:
    """Where a first token takes long anyway."""
    assert findings(cycles((2.9,), (2.9,), before=(2.0,))) == []
    assert len(findings(cycles((3.1,), (3.1,), before=(2.0,)))) == 1


def test_without_a_time_before_there_is_nothing_to_be_slower_than() -> None:
    """As where the harness was stopped then."""
    story = cycles(SLOW, SLOW)
    for each in story.recording().first_tokens[:2]:
        story.tell(HarnessStopped(t=each.t, seconds=0.1))
    assert findings(story) == []
