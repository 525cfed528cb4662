"""What log-probabilities may not say, to the last digit that decides."""

from __future__ import annotations

import numpy as np
import pytest

from harness.check.checkers import protocol
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from tests.check.stories import Change, Story

INFINITY, NAN = float("inf"), float("nan")
ROUNDING = 1e-4

Row = tuple[int, float, list[tuple[int, float]]]
"""A generated token, its log-probability, and the likeliest tokens beside it with theirs."""

GREEDY: Row = (300, -0.5, [(300, -0.5), (301, -1.5), (302, -2.5)])


def saying(*rows: Row) -> Change:
    """An answer of these tokens that ends at a stop string, so that nothing else is wrong with it."""

    def change(answer: Answer) -> Answer:
        listed = [likeliest for _, _, likeliest in rows]
        table = Logprobs.pack(
            chosen=np.array([chosen for _, chosen, _ in rows], dtype=np.float32),
            top_ids=np.array([[token for token, _ in row] for row in listed], dtype=np.int32).reshape(-1, 3),
            top_values=np.array([[value for _, value in row] for row in listed], np.float32).reshape(-1, 3),
        )
        tokens = tuple(token for token, _, _ in rows)
        return answer.model_copy(
            update={
                "token_ids": tokens,
                "completion_tokens": len(tokens),
                "finish_reason": "stop",
                "stop_reason": "END",
                "logprobs": table,
            }
        )

    return change


def told(*rows: Row) -> list[tuple[object, str]]:
    """Kind and sentence of every violation of an answer of these rows, its place left out."""
    story = Story().baseline().null().cycle(1, warm={"p0": saying(*rows)})
    return [
        (finding.evidence["violation"], finding.message.removeprefix("p0, cycle 1, warm: "))
        for finding in protocol.check(story.evidence())
    ]


CONTRADICTORY = "contradictory logprob"


def contradiction(position: int) -> list[tuple[object, str]]:
    """That a token's own log-probability and the list beside it cannot both be true."""
    sentence = f"the log-probability of token {position} contradicts those of the likeliest tokens"
    return [(CONTRADICTORY, sentence)]


def not_greedy(position: int) -> list[tuple[object, str]]:
    """That a token was taken although a likelier one is listed."""
    return [("not greedy", f"token {position} is not the likeliest although temperature is 0")]


def test_greedy_tokens_are_fine() -> None:
    """Every token is the first of its list, and has the same value there."""
    assert told(GREEDY, GREEDY) == []


def test_an_answer_of_no_tokens_is_fine() -> None:
    """Empty tables hold nothing that could be wrong."""
    assert told() == []


@pytest.mark.parametrize("token", [0, 301])
def test_the_number_that_is_none_is_named(token: int) -> None:
    """The first place with a number that is none is told, be its candidate the very first token id."""
    broken: Row = (300, -0.5, [(300, -0.5), (token, NAN), (302, -2.5)])
    assert told(GREEDY, GREEDY, broken, GREEDY) == [
        ("not finite", "the log-probability of token 2 is not a finite number")
    ]


def test_a_missing_candidate_may_hold_no_number() -> None:
    """Where there is no candidate there is no value."""
    assert told((300, -0.5, [(300, -0.5), (301, -1.5), (-1, NAN)])) == []


@pytest.mark.parametrize(("value", "found"), [(ROUNDING, False), (2 * ROUNDING, True)])
@pytest.mark.parametrize("runner_up", [(-1, -INFINITY), (301, -1.5)])
def test_what_float32_rounds_above_certain_is_fine(
    *, value: float, found: bool, runner_up: tuple[int, float]
) -> None:
    """A probability may exceed 1 by a rounding error, and by no more; a candidate's as well."""
    sentence = ("above one", "a token has a probability above 1")
    own: Row = (300, value, [(300, value), runner_up, (-1, -INFINITY)])
    assert told(own) == ([sentence] if found else [])
    other: Row = (300, 0.0, [(301, value), (300, 0.0), (-1, -INFINITY)])
    assert (sentence in told(other)) is found


@pytest.mark.parametrize("values", [(-0.5, -0.4, -2.5), (-0.5, -2.5, -1.5)])
def test_likeliest_tokens_out_of_order_are_found(values: tuple[float, float, float]) -> None:
    """Whichever neighbours of the list are the wrong way round."""
    row: Row = (300, -0.5, list(zip((300, 301, 302), values, strict=True)))
    assert told(GREEDY, row) == [("unordered", "the likeliest tokens are not sorted by log-probability")]


def test_equal_values_are_in_order() -> None:
    """Two candidates may be equally likely, in a list with a gap as in a full one."""
    assert told((300, -0.5, [(300, -0.5), (301, -0.5), (302, -0.5)])) == []
    assert told((300, -0.5, [(300, -0.5), (301, -0.5), (-1, -INFINITY)])) == []


def test_a_token_that_is_told_twice_may_round_differently() -> None:
    """The token's own value and the one in the list may differ by a rounding error, and by no more."""
    assert told(GREEDY, (300, 0.0, [(300, -ROUNDING), (301, -1.5), (302, -2.5)])) == []
    assert told(GREEDY, (300, 0.0, [(300, -3 * ROUNDING), (301, -1.5), (302, -2.5)])) == contradiction(1)
    assert told((300, -1.5, [(301, -0.5), (300, -1.4), (302, -2.5)])) == contradiction(0)


@pytest.mark.parametrize("candidate", [0, 301])
def test_a_token_that_was_passed_over_is_found(candidate: int) -> None:
    """One token that is likelier than a listed one and not listed, among others that are in order."""
    row: Row = (999, -0.5, [(300, -0.5), (candidate, -1.5), (302, -2.5)])
    assert told(GREEDY, row, GREEDY) == contradiction(1)
    incomplete: Row = (300, -0.5, [(300, -0.5), (301, -1.5), (-1, -INFINITY)])
    assert told(incomplete, row) == contradiction(1)


@pytest.mark.parametrize("above", [0.0, ROUNDING, -ROUNDING / 2])
def test_a_token_as_likely_as_the_least_need_not_be_listed(above: float) -> None:
    """Which of two equally likely tokens closes the list is chance; it is not greedy, no more."""
    last = float(np.float32(-2.5) + np.float32(above))
    row: Row = (999, last, [(300, -0.5), (301, -1.5), (302, -2.5)])
    assert told(GREEDY, row) == not_greedy(1)


def test_another_tokens_list_does_not_count() -> None:
    """A token is held against the list at its own position, not against the longest tail of them all."""
    far: Row = (300, -0.5, [(300, -0.5), (301, -9.0), (302, -20.0)])
    assert told(far, (999, -6.0, [(300, -0.5), (301, -1.5), (302, -2.5)])) == not_greedy(1)


def test_an_incomplete_list_passes_over_nothing() -> None:
    """Where the server listed fewer candidates, what is missing cannot be contradicted."""
    row: Row = (999, -2.0, [(300, -0.5), (301, -2.5), (-1, -INFINITY)])
    assert told(row) == not_greedy(0)


@pytest.mark.parametrize("likeliest", [0, 300])
def test_a_likelier_token_was_there(likeliest: int) -> None:
    """At temperature 0 the first of the list is taken, even if it is the only one, or has the id 0."""
    assert told(GREEDY, (301, -1.5, [(likeliest, -0.5), (301, -1.5), (302, -2.5)])) == not_greedy(1)
    alone: Row = (301, -1.5, [(likeliest, -0.5), (-1, -INFINITY), (-1, -INFINITY)])
    assert told(GREEDY, alone) == not_greedy(1)


def test_a_token_that_is_as_likely_as_the_first_is_greedy() -> None:
    """A tie within rounding may be broken either way."""
    assert told((301, -ROUNDING, [(300, 0.0), (301, -ROUNDING), (302, -2.5)])) == []
