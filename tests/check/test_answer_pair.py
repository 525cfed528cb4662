"""Two answers side by side."""

from __future__ import annotations

import numpy as np
import pytest

from harness.check.answer_pair import AnswerPair, gap_at
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from tests.check.stories import Change, Story, garbage, shifted, stop_after, updated


def compared(change: Change, *, prompt: str = "p0") -> AnswerPair:
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


def at_the_fifth_token(answer: Answer, *, chosen: float = 0.0, token: int | None = None) -> Answer:
    """Move the token's own log-probability, or replace its last candidate."""
    assert answer.logprobs is not None
    values, ids = answer.logprobs.chosen.copy(), answer.logprobs.top_ids.copy()
    values[4] += chosen
    if token is not None:
        ids[4, 2] = token
    table = Logprobs.pack(chosen=values, top_ids=ids, top_values=answer.logprobs.top_values)
    return answer.model_copy(update={"logprobs": table})


def test_any_of_the_arrays_can_differ() -> None:
    """The token's own value alone, or a candidate's id alone, is found where it is."""
    own = compared(lambda answer: at_the_fifth_token(answer, chosen=-1.0))
    assert (own.first_logprob_difference, own.same_logprobs) == (4, False)
    other = compared(lambda answer: at_the_fifth_token(answer, token=7))
    assert (other.first_logprob_difference, other.same_logprobs) == (4, False)


def test_log_probabilities_are_compared_as_far_as_tokens_are_shared() -> None:
    """After the first other token the contexts differ, and so may everything else."""
    apart = compared(lambda answer: stop_after(9)(garbage(6)(answer)))
    assert (apart.shared, apart.first_logprob_difference, apart.logprob_shift) == (6, None, 0.0)
    before = compared(lambda answer: stop_after(9)(shifted(0.25, position=2)(answer)))
    assert (before.shared, before.first_logprob_difference) == (8, 2)
    assert before.logprob_shift == pytest.approx(0.25)


def test_lists_of_another_length_cannot_be_compared() -> None:
    """Three candidates beside two are different, and no token can be named where that begins."""

    def shorter(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        table = answer.logprobs
        two = Logprobs.pack(
            chosen=table.chosen, top_ids=table.top_ids[:, :2], top_values=table.top_values[:, :2]
        )
        return answer.model_copy(update={"logprobs": two})

    comparison = compared(shorter)
    assert not comparison.same_logprobs
    assert comparison.first_logprob_difference is None
    assert comparison.logprob_shift == 0.0


def test_nothing_shared_has_no_shift() -> None:
    """Where the first token differs already nothing can be compared; an empty answer agrees with another."""
    assert compared(garbage(0)).logprob_shift is None
    nothing = updated(token_ids=())
    empty = Story().baseline({"p0": nothing}).cycle(1, warm={"p0": nothing}).evidence().after[0]
    assert (empty.agreement, empty.shared, empty.logprob_shift) == (1.0, 0, None)


def test_a_number_that_is_none_is_no_shift() -> None:
    """What is no number is left out of the largest shift, whichever side it is on."""
    assert compared(lambda answer: at_the_fifth_token(answer, chosen=float("nan"))).logprob_shift == 0.0
    assert compared(lambda answer: at_the_fifth_token(answer, chosen=float("-inf"))).logprob_shift == 0.0


def test_a_gap_to_nothing_is_none() -> None:
    """Where the runner-up is missing there is nothing to be surer than."""
    answer = Story().baseline().recording().passes[0].answers["p0"]
    assert answer.logprobs is not None
    top = answer.logprobs.top_values.copy()
    top[3, 1:] = -np.inf
    table = Logprobs.pack(chosen=answer.logprobs.chosen, top_ids=answer.logprobs.top_ids, top_values=top)
    lonely = answer.model_copy(update={"logprobs": table})
    assert gap_at(lonely, 3) is None
    assert gap_at(lonely, 0) == pytest.approx(float(top[0, 0] - top[0, 1]))
    assert gap_at(lonely, 23) == pytest.approx(float(top[23, 0] - top[23, 1]))


def test_two_candidates_make_a_gap() -> None:
    """No more than the likeliest and the next are needed."""
    answer = Story().baseline().recording().passes[0].answers["p0"]
    assert answer.logprobs is not None
    table = answer.logprobs
    two = Logprobs.pack(chosen=table.chosen, top_ids=table.top_ids[:, :2], top_values=table.top_values[:, :2])
    assert gap_at(answer.model_copy(update={"logprobs": two}), 5) == gap_at(answer, 5)
