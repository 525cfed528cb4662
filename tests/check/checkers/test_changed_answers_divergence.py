"""Where answers part from their baseline."""

from __future__ import annotations

import pytest

from harness.check.result import Strength
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, Control
from tests.check.stories import Change, Story, both, clean_story, flip, garbage, nearly_tied, shifted, updated


def test_equal_answers_have_no_finding() -> None:
    """A healthy story diverges nowhere."""
    assert clean_story().findings("divergence") == []


def test_the_first_differing_token_is_reported() -> None:
    """The finding says where the answers part, how sure the baseline was, and how much still agrees."""
    story = Story().baseline().null().cycle(2, cold={"p1": garbage(6)})
    [finding] = story.findings("divergence")
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
        f"p1, cycle 2, cold: differs from token 6 on, where the baseline was ahead by {gap:.3g} nat; "
        "25% of the tokens agree"
    )
    assert (finding.checker, finding.prompt, finding.cycle) == ("divergence", "p1", 2)
    assert finding.pass_number == story.recording().passes[-1].number


def test_a_difference_without_logprobs_is_reported() -> None:
    """A baseline that recorded no candidates has no gap to tell."""
    story = Story().baseline({"p1": updated(logprobs=None)}).null({"p1": updated(logprobs=None)})
    story.cycle(warm={"p1": lambda answer: updated(logprobs=None)(garbage(6)(answer))})
    findings = story.findings("divergence")
    assert findings[0].message == "p1, cycle 1, warm: differs from token 6 on; 25% of the tokens agree"
    assert findings[0].evidence["baseline_gap"] is None


def test_logprobs_alone_are_reported() -> None:
    """Equal tokens with other log-probabilities are damage that greedy decoding hides."""
    [finding] = Story().baseline().null().cycle(warm={"p2": shifted(0.5, 4)}).findings("divergence")
    assert finding.message == (
        "p2, cycle 1, warm: same tokens, but different log-probabilities from token 4 on, by up to 0.5 nat"
    )
    assert finding.evidence == {"first_logprob_difference": 4, "logprob_shift": 0.5, "cached_tokens": 0}


def test_lost_logprobs_are_reported() -> None:
    """An answer without the log-probabilities its baseline had is different."""
    [finding] = Story().baseline().null().cycle(warm={"p2": updated(logprobs=None)}).findings("divergence")
    assert "different shape" in finding.message


def test_another_ending_is_left_to_termination() -> None:
    """The finish reason is not this checker's business."""
    story = Story().baseline().null().cycle(warm={"p2": updated(finish_reason="length")})
    assert story.findings("divergence") == []


def test_a_difference_is_proof_where_the_recording_is_quiet() -> None:
    """Where nothing differed before the transition, differences after it prove damage."""
    damage = {"p0": garbage(), "p1": garbage()}
    findings = Story().baseline().null().cycle(warm=damage).findings("divergence")
    assert [finding.strength for finding in findings] == [Strength.PROOF] * 2


@pytest.mark.parametrize(
    ("again", "strength"), [(garbage(3), Strength.PROOF), (updated(), Strength.HINT), (None, Strength.HINT)]
)
def test_one_odd_answer_is_proof_once_it_comes_again(again: Change | None, strength: Strength) -> None:
    """Chance is not reckoned with where nothing differs, so a single answer has to be confirmed."""
    story = Story().baseline().null().cycle(warm={"p0": garbage(3)})
    if again:
        story.asked_again({"p0": again})
    [finding] = story.findings("divergence")
    assert finding.strength is strength


@pytest.mark.parametrize(
    ("control", "strength"),
    [(Control.FRESH_SALT, Strength.PROOF), (Control.RELOAD_WEIGHTS, Strength.HINT)],
)
def test_what_a_control_question_may_have_broken_confirms_nothing(
    control: Control, strength: Strength
) -> None:
    """Damage behind a control that leaves the engine be was there before; behind a reload it may be new."""
    story = Story().baseline().null().cycle(warm={"p0": garbage(3)})
    [finding] = story.control(control, {"p0": garbage(3)}, asked=["p0"]).findings("divergence")
    assert finding.strength is strength


def test_a_difference_is_a_hint_where_noise_was_not_measured() -> None:
    """Without a null transition one difference proves nothing."""
    [finding] = Story().baseline().cycle(warm={"p0": garbage()}).findings("divergence")
    assert finding.strength is Strength.HINT


def test_a_near_tie_is_no_divergence() -> None:
    """A token the baseline held no likelier than another may flip by the order of additions."""
    tie = nearly_tied(position=5, gap=5e-4)
    flipped = both(tie, flip(5))
    story = (
        Story()
        .baseline({"p0": tie})
        .null({"p0": tie})
        .sleep()
        .wake()
        .probe(1, warm={"p0": flipped}, cold={"p0": tie})
    )
    assert story.findings("divergence") == []
    sure = nearly_tied(position=5, gap=0.1)
    flipped = both(sure, flip(5))
    story = (
        Story()
        .baseline({"p0": sure})
        .null({"p0": sure})
        .sleep()
        .wake()
        .probe(1, warm={"p0": flipped}, cold={"p0": sure})
    )
    assert len(story.findings("divergence")) == 1


def candidate_moved(answer: Answer) -> Answer:
    """A candidate at the fifth token that was not taken is less likely than before."""
    assert answer.logprobs is not None
    top = answer.logprobs.top_values.copy()
    top[4, 2] -= 1
    logprobs = Logprobs.pack(chosen=answer.logprobs.chosen, top_ids=answer.logprobs.top_ids, top_values=top)
    return answer.model_copy(update={"logprobs": logprobs})


def test_candidates_alone_are_reported() -> None:
    """No log-probability of the answer itself differs, and none is said to."""
    [finding] = Story().baseline().null().cycle(warm={"p2": candidate_moved}).findings("divergence")
    assert finding.message == (
        "p2, cycle 1, warm: same tokens, but different log-probabilities from token 4 on, "
        "although not of the tokens themselves"
    )
    assert finding.evidence["logprob_shift"] == 0.0


def test_lost_logprobs_are_told_in_words() -> None:
    """Nothing is measured where one side has nothing to measure; the cached tokens are told all the same."""
    [finding] = Story().baseline().null().cycle(warm={"p2": updated(logprobs=None)}).findings("divergence")
    assert finding.message == (
        "p2, cycle 1, warm: same tokens, but the log-probabilities have a different shape"
    )
    assert finding.evidence == {"cached_tokens": 0}


def test_a_shift_before_the_difference_is_kept() -> None:
    """How far the shared tokens had moved, and to four digits how much still agrees."""
    story = Story().baseline().null().cycle(1, warm={"p0": both(shifted(0.25, 2), garbage(7))})
    [finding] = story.findings("divergence")
    assert finding.evidence["logprob_shift_before"] == pytest.approx(0.25)
    assert finding.evidence["agreement"] == 0.2917
