"""What a stop of the harness costs: the times that overlap it, and nothing else."""

from __future__ import annotations

import pytest

from harness.check.checkers.speed import check
from harness.check.result import Cause, Strength, Verdict
from harness.history.events import HarnessStopped
from tests.check.stories import Change, Story, updated

PROMPTS = 20
"""So many that a pass lasts longer than a stop: every event of a story takes a second."""


def lasting(seconds: float) -> dict[str, Change]:
    """All answers take so long."""
    return {f"p{number}": updated(seconds=seconds) for number in range(PROMPTS)}


def story(*, judged: float = 1.0, cycles: int = 2) -> Story:
    """Some cycles, whose judged answers take so long."""
    told = Story(prompts=PROMPTS).baseline().null()
    for number in range(1, cycles + 1):
        told.cycle(number, warm=lasting(judged), cold=lasting(judged))
    return told


def stopped_in(told: Story, *numbers: int, seconds: float = 14.0) -> Story:
    """The harness was stopped in the middle of these passes."""
    for each in told.recording().passes:
        if each.number in numbers:
            told.tell(HarnessStopped(t=each.start.t + seconds + 3, seconds=seconds))
    return told


def test_a_stop_in_the_middle_of_a_clean_cell_leaves_it_clean() -> None:
    """Its answers were right all the time; the remark says whose times were not judged."""
    result = stopped_in(story(), 7).judged()
    assert result.verdict is Verdict.CLEAN
    assert result.speed.startswith(
        "sleepwake itself was stopped for 14 s; the times of 1 pass are not judged"
    )


def test_without_a_stop_there_is_nothing_to_remark_on() -> None:
    """A wall clock that was set is none: we measure by another."""
    told = story()
    assert told.recording().stops == ()
    told.tell(HarnessStopped(t=9.0, seconds=0.0, clock_jump_seconds=3600.0))
    result = told.judged()
    assert result.verdict is Verdict.CLEAN
    assert "stopped" not in result.speed


def test_a_stop_between_passes_and_calls_costs_nothing() -> None:
    """What it overlaps was not timed."""
    told = story()
    told.tell(HarnessStopped(t=told.now() + 60, seconds=14.0))
    speed = told.judged().speed
    assert speed.startswith("sleepwake itself was stopped for 14 s; it cost no time that is judged")


def test_an_engine_that_is_slow_without_the_lost_times_stays_degraded() -> None:
    """Three of its four judged passes are slow, and nobody was stopped in them."""
    result = stopped_in(story(judged=5.0), 7).judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SPEED)
    assert "the times of 1 pass are not judged" in result.speed


def test_slowness_that_only_lost_times_show_is_inconclusive() -> None:
    """One pass is left, and one is too few."""
    result = stopped_in(story(judged=5.0, cycles=1), 7).judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "but sleepwake itself was stopped for 14 s meanwhile: run it again" in result.reason
    assert [each.strength for each in result.findings if each.checker == "speed"] == [Strength.HINT]


def test_a_fast_pass_acquits_whoever_was_stopped_in_it() -> None:
    """No stop makes a time shorter."""
    told = Story(prompts=PROMPTS).baseline().null()
    told.cycle(1, warm=lasting(1.0), cold=lasting(9.0)).cycle(2, warm=lasting(9.0), cold=lasting(9.0))
    assert list(check(stopped_in(told, 6).evidence())) == []


def test_a_slow_pass_before_does_not_acquit_where_the_harness_was_stopped() -> None:
    """It took so long because of that."""
    told = Story(prompts=PROMPTS).baseline().null(lasting(9.0)).cycle(1, warm=lasting(5.0), cold=lasting(5.0))
    assert list(check(told.evidence())) == []
    assert len(list(check(stopped_in(told, 4, 5).evidence()))) == 1


@pytest.mark.parametrize(("ended", "calls"), [(0.0, 1), (0.5, 1), (16.0, 0)])
def test_the_calls_that_overlap_a_stop_are_lost(ended: float, calls: int) -> None:
    """A stop may have begun a beat before it is measured to have, and no earlier."""
    told = story(cycles=1)
    wake = next(call for call in told.recording().calls if call.path == "/wake_up")
    told.tell(HarnessStopped(t=wake.t + ended, seconds=14.0 if not ended else 0.1))
    lost = [call for call in told.evidence().lost_times.calls if call.path == "/wake_up"]
    assert len(lost) == calls
