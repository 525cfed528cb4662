"""Whether drafts are still accepted."""

from __future__ import annotations

import pytest

from harness.check.checkers import drafts
from harness.check.result import Cause, Finding, Strength, Verdict
from harness.history.observations import Observation
from tests.check.stories import Story, failing


def counted(story: Story, *, drafted: int, accepted: int) -> Story:
    """Look at the counters."""
    return story.tell(
        Observation(
            t=story.now(),
            step=None,
            moment="after",
            is_sleeping=False,
            sleep_state=None,
            resident_bytes=None,
            device_bytes=None,
            counters={"drafted_tokens": drafted, "accepted_tokens": accepted},
        )
    )


def drafting(*, before: tuple[int, int], after: tuple[int, int], late: bool = False) -> Story:
    """A cell that drafts and accepts so many tokens before and after its transition."""
    answers = dict.fromkeys(("p0", "p1", "p2", "p3"), failing("timeout")) if late else None
    story = counted(Story(), drafted=50, accepted=10).baseline()
    counted(story, drafted=50 + before[0], accepted=10 + before[1]).null()
    story.sleep().wake().probe(warm=answers)
    return counted(story, drafted=50 + before[0] + after[0], accepted=10 + before[1] + after[1])


def counted_only(story: Story) -> Story:
    """The same story without the observations of other steps."""
    story.events = [event for event in story.events if not isinstance(event, Observation) or event.counters]
    return story


def findings(story: Story) -> list[Finding]:
    """The findings about drafts."""
    return list(drafts.check(counted_only(story).evidence()))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ((1000, 600), (1000, 600), 0),
        ((1000, 600), (1000, 310), 0),
        ((1000, 600), (1000, 290), 1),
        ((1000, 600), (1000, 0), 1),
        ((1000, 0), (1000, 0), 0),
        ((99, 60), (1000, 0), 0),
        ((1000, 600), (99, 0), 0),
        ((100, 60), (100, 0), 1),
        ((0, 0), (0, 0), 0),
    ],
)
def test_acceptance_that_halves_is_found(before: tuple[int, int], after: tuple[int, int], found: int) -> None:
    """A rate below half of the former one is found, if enough was drafted to tell."""
    assert len(findings(drafting(before=before, after=after))) == found


def test_the_finding_tells_both_rates() -> None:
    """Accepted per drafted token, after and before."""
    [finding] = findings(drafting(before=(1000, 600), after=(1000, 50)))
    assert (
        finding.message
        == "5% of the drafted tokens are accepted after the transition, compared with 60% before"
    )
    assert finding.strength is Strength.PROOF
    assert finding.evidence == {"acceptance": 0.05, "baseline_acceptance": 0.6}


def test_a_server_without_drafts_is_fine() -> None:
    """Where nothing is drafted nothing is found."""
    assert list(drafts.check(Story().baseline().null().cycle().evidence())) == []
    assert list(drafts.check(Story().evidence())) == []


def test_a_lost_draft_model_degrades() -> None:
    """Answers hold, drafts do not: the cause is the draft model."""
    story = drafting(before=(1000, 600), after=(1000, 0))
    story.events = [event for event in story.events if not isinstance(event, Observation) or event.counters]
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.DRAFT_MODEL)


def test_half_the_former_rate_is_fine() -> None:
    """Acceptance differs a little with what is generated: it must fall below half."""
    assert findings(drafting(before=(1000, 600), after=(1000, 300))) == []
    [finding] = findings(drafting(before=(1000, 600), after=(1000, 299)))
    assert finding.checker == "drafts"


def test_looks_are_taken_in_the_order_of_time() -> None:
    """Observations may be recorded late; what counts is when they were made."""
    story = drafting(before=(1000, 600), after=(1000, 50))
    expected = findings(story)
    looks = [event for event in story.events if isinstance(event, Observation)]
    story.events = [event for event in story.events if not isinstance(event, Observation)] + looks[::-1]
    assert findings(story) == expected


def test_the_last_look_before_the_transition_is_where_judging_begins() -> None:
    """One look before and one after are enough to judge, but not to know what was usual."""
    story = counted(Story(), drafted=1000, accepted=600).baseline().null()
    counted(story.sleep().wake().probe(), drafted=2000, accepted=600)
    assert findings(story) == []


def test_counters_that_are_missing_count_nothing() -> None:
    """A server that tells of drafts but not of acceptance is not accused of anything it did before."""
    story = counted(Story(), drafted=0, accepted=0).baseline()
    counted(story, drafted=500, accepted=400).null().sleep().wake().probe()
    story.tell(story.events[3].model_copy(update={"t": story.now(), "counters": {"accepted_tokens": 400}}))
    assert findings(story) == []


def test_late_answers_are_the_draft_models_where_every_draft_is_rejected() -> None:
    """Without its drafts an engine is slower, not stuck."""
    result = counted_only(drafting(before=(1000, 600), after=(1000, 0), late=True)).judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.DRAFT_MODEL)
    assert (
        "0% of the drafted tokens are accepted after the transition, compared with 60% before"
        in result.reason
    )
    sound = counted_only(drafting(before=(1000, 600), after=(1000, 600), late=True)).judged()
    assert (sound.verdict, sound.cause) == (Verdict.INCONCLUSIVE, None)
