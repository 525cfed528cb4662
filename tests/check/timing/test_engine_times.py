"""What the engine counted itself of the time that things took."""

from __future__ import annotations

import pytest

from harness.check.result import CellResult, Verdict
from harness.check.timing.engine_times import engine_seconds
from harness.history.observations import Observation
from harness.history.passes import PassStarted
from tests.check.stories import Change, Story, clean_story, updated


def look(t: float, **counters: float) -> Observation:
    """A look at an engine that counts so much."""
    return Observation(
        t=t,
        step=None,
        moment="before",
        is_sleeping=False,
        sleep_state=None,
        resident_bytes=None,
        device_bytes=None,
        counters=counters,
    )


def test_of_two_looks_the_difference_counts() -> None:
    """The last before something, and the first after it."""
    story = clean_story()
    for t, number, seconds in ((1.0, 2, 5.0), (10.0, 4, 6.0), (20.0, 8, 16.0), (30.0, 9, 99.0)):
        story.tell(look(t, answers_count=number, answers_seconds=seconds))
    recording = story.recording()
    assert engine_seconds(recording, "answers", begin=12.0, end=19.0) == pytest.approx(2.5)
    assert engine_seconds(recording, "answers", begin=0.5, end=19.0) is None
    assert engine_seconds(recording, "answers", begin=12.0, end=31.0) is None
    assert engine_seconds(recording, "wake_ups", begin=12.0, end=19.0) is None


def test_an_engine_that_counted_nothing_or_began_anew_does_not_tell() -> None:
    """There is nothing to divide by."""
    story = clean_story()
    for t, number, seconds in ((1.0, 4, 5.0), (10.0, 4, 5.0), (20.0, 1, 1.0)):
        story.tell(look(t, answers_count=number, answers_seconds=seconds))
    assert engine_seconds(story.recording(), "answers", begin=2.0, end=9.0) is None
    assert engine_seconds(story.recording(), "answers", begin=2.0, end=19.0) is None


def slow(*, by_the_engine: float) -> CellResult:
    """An engine whose answers take five times as long by our clock, and so many times by its own."""
    every: dict[str, Change] = dict.fromkeys(["p0", "p1", "p2", "p3"], updated(seconds=5.0))
    story = Story().baseline().null().cycle(1, warm=every, cold=every)
    begun = [event.t for event in story.events if isinstance(event, PassStarted)]
    story.tell(look(begun[1] - 0.5, answers_count=0, answers_seconds=0.0))
    story.tell(look(begun[5] - 0.5, answers_count=10, answers_seconds=10.0))
    story.tell(look(story.now(), answers_count=20, answers_seconds=10.0 + 10 * by_the_engine))
    return story.judged()


def test_what_is_slow_by_our_clock_alone_is_not_in_the_engine() -> None:
    """Inconclusive: it lies in between."""
    assert slow(by_the_engine=4.0).verdict is Verdict.DEGRADED
    result = slow(by_the_engine=1.1)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "the engine itself counts hardly more time" in result.reason
