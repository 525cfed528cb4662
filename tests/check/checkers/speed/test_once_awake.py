"""Whether the engine woke up slower."""

from __future__ import annotations

import pytest

from harness.check.checkers.speed import check, once_awake
from harness.check.result import Cause, Finding, Strength, Verdict
from tests.check.stories import Change, Story, clean_story, failing, updated

NAMES = ["p0", "p1", "p2", "p3"]


def lasting(seconds: float) -> dict[str, Change]:
    """All answers take so long."""
    return dict.fromkeys(NAMES, updated(seconds=seconds))


def findings(story: Story) -> list[Finding]:
    """The speed findings of a story."""
    return list(check(story.evidence()))


def test_equal_speed_has_no_finding() -> None:
    """A healthy story is as fast as before."""
    assert findings(clean_story()) == []


@pytest.mark.parametrize(("factor", "found"), [(1.4, 0), (1.6, 1), (5.0, 1), (0.2, 0)])
def test_every_pass_must_be_slower_by_half(factor: float, found: int) -> None:
    """An engine that takes half as long again for a token, in every pass, is degraded."""
    story = Story().baseline().null().cycle(1, warm=lasting(factor), cold=lasting(factor))
    assert len(findings(story)) == found


def test_one_fast_pass_acquits() -> None:
    """If one pass after the transition is as fast as before, something else slowed the others."""
    story = Story().baseline().null().cycle(1, warm=lasting(9.0), cold=lasting(9.0))
    assert len(findings(story)) == 1
    assert findings(story.cycle(2, warm=lasting(1.0), cold=lasting(9.0))) == []


def test_one_slow_pass_before_acquits() -> None:
    """Where the machine was as slow once before, slowness proves nothing."""
    story = Story().baseline().null(lasting(3.0)).cycle(1, warm=lasting(4.0), cold=lasting(4.0))
    assert findings(story) == []


def test_one_slow_answer_is_no_slow_pass() -> None:
    """The median over the answers counts: a single long wait in a queue does not."""
    slow = {"p0": updated(seconds=90.0)}
    assert findings(Story(prompts=5).baseline().null().cycle(1, warm=slow, cold=slow)) == []


@pytest.mark.parametrize(("seconds", "found"), [(0.04, 0), (4.0, 1)])
def test_a_moment_is_too_short(seconds: float, found: int) -> None:
    """Passes of less than a second in all are slower whenever the machine is busy for a moment."""
    quick, slow = lasting(seconds / 4), lasting(seconds)
    story = Story().baseline(quick).null(quick).cycle(1, warm=slow, cold=slow)
    assert len(findings(story)) == found


def test_one_pass_is_too_few() -> None:
    """The first pass after waking up may be slow for good reasons."""
    story = Story().baseline().null().sleep().wake()
    story.probe(1, warm=lasting(9.0), cold=lasting(9.0))
    story.events = [event for event in story.events if getattr(event, "pass_number", 0) != 7]
    assert findings(story) == []


def test_the_finding_tells_both_speeds() -> None:
    """Milliseconds a token, in the fastest pass after and the slowest before."""
    story = Story().baseline().null().cycle(1, warm=lasting(2.4), cold=lasting(4.8))
    [finding] = findings(story)
    assert finding.message == (
        "a token takes 100 ms in the fastest pass after the transition (cycle 1, warm), "
        "42 ms in the slowest one before it"
    )
    assert finding.strength is Strength.PROOF
    assert finding.evidence["seconds_per_token"] == pytest.approx(0.1)
    assert finding.evidence["baseline_seconds_per_token"] == pytest.approx(1 / 24)


def test_a_slow_engine_is_degraded() -> None:
    """Answers hold, but the engine woke up slower."""
    result = Story().baseline().null().cycle(1, warm=lasting(5.0), cold=lasting(5.0)).judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SPEED)


def test_a_finding_leads_to_its_cycle() -> None:
    """The fastest judged pass is the one that is told of."""
    story = Story().baseline().null().cycle(1, warm=lasting(9.0), cold=lasting(8.0))
    [finding] = findings(story.cycle(2, warm=lasting(6.0), cold=lasting(7.0)))
    assert finding.checker == "speed"
    assert finding.cycle == 2
    assert "(cycle 2, warm)" in finding.message


def test_half_as_long_again_is_slower() -> None:
    """Exactly one and a half times as long is found."""
    story = Story().baseline().null().cycle(1, warm=lasting(1.5), cold=lasting(1.5))
    assert len(findings(story)) == 1


def test_answers_without_tokens_or_of_no_avail_have_no_speed() -> None:
    """A request that failed, and an answer of nothing, are left out of the median."""
    gone = {"p0": failing("timeout"), "p1": updated(token_ids=(), seconds=99.0)}
    every = dict.fromkeys(NAMES, failing("timeout"))
    story = Story().baseline().null().cycle(1, warm=gone, cold=every)
    answered = once_awake._decoded(story.evidence().after_replies, concurrency=4)
    [seconds] = once_awake.seconds_per_token(answered).values()
    # p2 has 12 tokens and p3 has 24, each after one second.
    assert seconds == pytest.approx((1 / 12 + 1 / 24) / 2)


def test_without_a_baseline_nothing_is_slower() -> None:
    """There is nothing to be slower than."""
    assert findings(Story().sleep().wake().probe(1, warm=lasting(9.0), cold=lasting(9.0))) == []


def test_prompts_that_are_asked_once_do_not_count() -> None:
    """Held-out prompts are in the cold baseline pass alone, so they would move its median."""
    story = Story(prompts=1, held_out=2).baseline({"p1": updated(seconds=90.0), "p2": updated(seconds=90.0)})
    slow = {"p0": updated(seconds=3.0)}
    assert len(findings(story.null().cycle(1, warm=slow, cold=slow))) == 1


def test_speed_is_compared_at_one_concurrency() -> None:
    """More requests at a time make each of them slower, and that is nobody's fault."""
    story = Story().baseline().null().sleep().wake()
    story.probe(1, warm=lasting(9.0), cold=lasting(9.0), concurrency=16)
    assert findings(story) == []


def test_the_first_pass_of_all_does_not_acquit() -> None:
    """An engine warms up in it: nobody may be as slow ever after."""
    warming_up = Story().baseline().null().cycle(1, warm=lasting(3.0), cold=lasting(3.0))
    for number, event in enumerate(warming_up.events):
        if getattr(event, "pass_number", 0) == 1:
            warming_up.events[number] = updated(seconds=9.0)(event)  # type: ignore[arg-type]  # it is an answer
    assert len(findings(warming_up)) == 1


@pytest.mark.parametrize(("slow", "found"), [(1, 1), (2, 0)])
def test_the_odd_slow_pass_of_many_does_not_acquit(slow: int, found: int) -> None:
    """The machine was busy with something else then; one in eight may be."""
    story = Story(methods=()).baseline().null(passes=4).cycle(1, warm=lasting(2.0), cold=lasting(2.0))
    for number, event in enumerate(story.events):
        if 4 <= getattr(event, "pass_number", 0) < 4 + slow:
            story.events[number] = updated(seconds=9.0)(event)  # type: ignore[arg-type]  # it is an answer
    assert len(findings(story)) == found
