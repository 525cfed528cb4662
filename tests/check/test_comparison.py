"""Two answers side by side."""

from __future__ import annotations

import pytest

from harness.check.comparison import Comparison, gap_at
from harness.history.events import Answer, Logprobs
from tests.check.stories import Change, Story, garbage, shifted, stop_after, updated


def compared(change: Change, *, prompt: str = "p0") -> Comparison:
    """The warm answer of ``prompt`` after a sleep beside its baseline."""
    story = Story().baseline().null().cycle(1, warm={prompt: change})
    [comparison] = [
        each
        for each in story.evidence().after
        if each.prompt.id == prompt and each.reply.start.cache == "warm"
    ]
    return comparison


def test_equal_answers_are_identical() -> None:
    """Nothing differs between two copies of an answer."""
    comparison = compared(updated())
    assert comparison.identical
    assert comparison.same_tokens
    assert comparison.same_ending
    assert comparison.same_logprobs
    assert comparison.first_difference is None
    assert comparison.first_logprob_difference is None
    assert comparison.gap is None
    assert comparison.agreement == 1.0
    assert comparison.logprob_shift == 0.0
    assert comparison.shared == 24


@pytest.mark.parametrize("start", [0, 1, 7, 23])
def test_the_first_differing_token_is_found(start: int) -> None:
    """The index of the difference is counted from zero, and everything before it is shared."""
    comparison = compared(garbage(start))
    assert comparison.first_difference == start
    assert comparison.shared == start
    assert comparison.agreement == start / 24
    assert not comparison.identical
    assert comparison.gap == gap_at(comparison.reference.answer, start)


def test_a_shorter_answer_differs_where_it_ends() -> None:
    """One answer being the beginning of the other, they part where the shorter ends."""
    comparison = compared(lambda a: stop_after(9)(a).model_copy(update={"token_ids": a.token_ids[:9]}))
    assert comparison.first_difference == 9
    assert comparison.agreement == 9 / 24


def test_agreement_goes_on_after_the_first_difference() -> None:
    """Agreement counts positions, not the common beginning alone."""
    comparison = compared(lambda a: updated(token_ids=(1, *a.token_ids[1:]))(a))
    assert comparison.first_difference == 0
    assert comparison.agreement == 23 / 24


def test_a_shift_of_logprobs_is_measured() -> None:
    """The largest shift of a shared token and its position are told."""
    comparison = compared(shifted(0.25, position=5))
    assert comparison.same_tokens
    assert not comparison.same_logprobs
    assert not comparison.identical
    assert comparison.logprob_shift == pytest.approx(0.25)
    assert comparison.first_logprob_difference == 5


def test_a_candidate_alone_can_differ() -> None:
    """A changed runner-up is noticed although every generated token keeps its value."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top = answer.logprobs.top_values.copy()
        top[4, 2] -= 1
        logprobs = Logprobs.pack(
            chosen=answer.logprobs.chosen, top_ids=answer.logprobs.top_ids, top_values=top
        )
        return answer.model_copy(update={"logprobs": logprobs})

    comparison = compared(change)
    assert comparison.first_logprob_difference == 4
    assert comparison.logprob_shift == 0.0
    assert not comparison.identical


def test_logprobs_on_one_side_only_are_a_difference() -> None:
    """An answer that lost its log-probabilities is not the baseline's."""
    comparison = compared(updated(logprobs=None))
    assert not comparison.same_logprobs
    assert comparison.logprob_shift is None
    assert comparison.first_logprob_difference is None


def test_another_finish_reason_is_a_difference() -> None:
    """Equal tokens with another ending are not identical."""
    comparison = compared(updated(finish_reason="stop"))
    assert comparison.same_tokens
    assert not comparison.same_ending
    assert not comparison.identical


def test_the_gap_is_top_one_minus_top_two() -> None:
    """The gap is read from the baseline's own candidates."""
    answer = Story().baseline().recording().passes[0].answers["p0"]
    assert answer.logprobs is not None
    top = answer.logprobs.top_values
    assert gap_at(answer, 3) == pytest.approx(float(top[3, 0] - top[3, 1]))


def test_there_is_no_gap_where_nothing_was_recorded() -> None:
    """Outside the answer, without log-probabilities, or with one candidate only there is no gap."""
    answer = Story().baseline().recording().passes[0].answers["p0"]
    assert answer.logprobs is not None
    assert gap_at(answer, 24) is None
    assert gap_at(answer, -1) is None
    assert gap_at(answer.model_copy(update={"logprobs": None}), 0) is None
    one = Logprobs.pack(
        chosen=answer.logprobs.chosen,
        top_ids=answer.logprobs.top_ids[:, :1],
        top_values=answer.logprobs.top_values[:, :1],
    )
    assert gap_at(answer.model_copy(update={"logprobs": one}), 0) is None
