"""Requests of others on the server under test: what they leave in doubt, and what they do not."""

from __future__ import annotations

import pytest

from harness.check.others import others
from harness.check.result import Strength, Verdict
from harness.history.events import RequestsCounted
from harness.history.observations import StepStarted
from tests.check.stories import Change, Story, clean_story, garbage, updated

NAMES = ["p0", "p1", "p2", "p3"]


def beside(story: Story, *, ended: int | None, own: int = 40, aborted: int = 0) -> Story:
    """The same, on a server that counted so many requests."""
    return story.tell(RequestsCounted(t=story.now(), ended=ended, own=own, aborted=aborted))


def slower() -> Story:
    """An engine that wakes up ten times slower."""
    slow: dict[str, Change] = dict.fromkeys(NAMES, updated(seconds=10.0))
    return Story().baseline().null().cycle(1, warm=slow, cold=slow)


@pytest.mark.parametrize(("ended", "own"), [(40, 40), (38, 40), (None, 40)])
def test_our_own_requests_are_no_others(ended: int | None, own: int) -> None:
    """A server that counted what we sent, or less, or does not count, served nobody else that is known."""
    assert others(beside(clean_story(), ended=ended, own=own).recording()) is None


def test_slowness_has_no_ground_where_others_were_served() -> None:
    """A degraded verdict becomes inconclusive, and its findings hints; alone it stays degraded."""
    assert slower().finish().judged().verdict is Verdict.DEGRADED
    judged = beside(slower(), ended=60, aborted=3).finish().judged()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "others sent 20 requests meanwhile, 3 of them aborted" in judged.reason
    assert all(each.strength is Strength.HINT for each in judged.findings if each.checker == "speed")


def test_slowness_has_no_ground_where_somebody_else_drives_the_engine() -> None:
    """Nothing waits until such a machine is idle: what was noticed, and not called for, says so."""
    story = slower()
    [first, *_] = [event for event in story.events if isinstance(event, StepStarted)]
    story.events[story.events.index(first)] = first.model_copy(update={"seen": True})
    judged = story.finish().judged()
    assert judged.verdict is Verdict.CLEAN
    assert any(each.checker == "speed" for each in judged.findings)


def test_equal_answers_stay_equal() -> None:
    """Nobody's requests make answers the same: a clean cell stays clean."""
    story = Story().baseline().null().cycle(1)
    assert beside(story, ended=60).finish().judged().verdict is Verdict.CLEAN


def test_garbage_stays_garbage() -> None:
    """No load turns an answer into another one where answers did not differ before."""
    story = Story().baseline().null().cycle(1, warm=dict.fromkeys(NAMES, garbage()))
    assert beside(story, ended=60).finish().judged().verdict is Verdict.CORRUPT
