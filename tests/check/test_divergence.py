"""Where answers part from their baseline."""

from __future__ import annotations

import pytest

from harness.check import divergence
from harness.check.result import Strength
from tests.check.stories import Story, clean_story, garbage, shifted, updated


def test_equal_answers_have_no_finding() -> None:
    """A healthy story diverges nowhere."""
    assert divergence.check(clean_story().evidence()) == ()


def test_the_first_differing_token_is_reported() -> None:
    """The finding says where the answers part, how sure the baseline was, and how much still agrees."""
    evidence = Story().baseline().null().cycle(2, cold={"p1": garbage(6)}).evidence()
    [finding] = divergence.check(evidence)
    gap = finding.evidence["baseline_gap"]
    assert isinstance(gap, float)
    assert finding.evidence == {
        "first_difference": 6,
        "agreement": 0.25,
        "baseline_gap": gap,
        "logprob_shift_before": 0.0,
        "cached_tokens": 0,
    }
    assert finding.message == (
        f"p1, cycle 2, cold: differs from token 6 on, where the baseline was sure by {gap:.3g} nat; "
        "25% of the tokens agree"
    )
    assert (finding.checker, finding.prompt, finding.cycle) == ("divergence", "p1", 2)
    assert finding.pass_number == evidence.recording.passes[-1].number


def test_a_difference_without_logprobs_is_reported() -> None:
    """A baseline that recorded no candidates has no gap to tell."""
    story = Story().baseline({"p1": updated(logprobs=None)}).null({"p1": updated(logprobs=None)})
    story.cycle(warm={"p1": lambda answer: updated(logprobs=None)(garbage(6)(answer))})
    findings = divergence.check(story.evidence())
    assert findings[0].message == "p1, cycle 1, warm: differs from token 6 on; 25% of the tokens agree"
    assert findings[0].evidence["baseline_gap"] is None


def test_logprobs_alone_are_reported() -> None:
    """Equal tokens with other log-probabilities are damage that greedy decoding hides."""
    [finding] = divergence.check(Story().baseline().null().cycle(warm={"p2": shifted(0.5, 4)}).evidence())
    assert finding.message == (
        "p2, cycle 1, warm: same tokens, but other log-probabilities from token 4 on, by up to 0.5 nat"
    )
    assert finding.evidence == {"first_logprob_difference": 4, "logprob_shift": 0.5, "cached_tokens": 0}


def test_lost_logprobs_are_reported() -> None:
    """An answer without the log-probabilities its baseline had is different."""
    [finding] = divergence.check(
        Story().baseline().null().cycle(warm={"p2": updated(logprobs=None)}).evidence()
    )
    assert "another shape" in finding.message


def test_another_ending_is_left_to_termination() -> None:
    """The finish reason is not this checker's business."""
    story = Story().baseline().null().cycle(warm={"p2": updated(finish_reason="length")})
    assert divergence.check(story.evidence()) == ()


@pytest.mark.parametrize(
    ("story", "strength"),
    [
        (Story().baseline().null(), Strength.PROOF),
        (Story().baseline().null({"p3": garbage(5)}), Strength.HINT),
        (Story().baseline(), Strength.HINT),
    ],
)
def test_only_an_exact_floor_makes_a_difference_proof(story: Story, strength: Strength) -> None:
    """Where the null transition differs, or was never run, one difference proves nothing."""
    [finding] = divergence.check(story.cycle(warm={"p0": garbage()}).evidence())
    assert finding.strength is strength
