"""How often tokens drawn with the same random numbers may differ."""

from __future__ import annotations

from math import comb, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.check.noise.equal_draws import at_least, chance, may_differ
from harness.history.kinds import KindChoice

WEIGHTS = st.lists(st.floats(0.05, 1.0), min_size=5, max_size=5)


def drawn(weights: list[float], *, token: int = 0) -> KindChoice:
    """An answer of one token, with its candidates."""
    total = sum(weights)
    candidates = tuple((number, log(weight / total)) for number, weight in enumerate(weights))
    return KindChoice(token_ids=(token,), candidates=candidates)


@given(number=st.integers(0, 9), each=st.floats(0.01, 0.99))
def test_of_equal_chances_it_is_the_binomial_tail(number: int, each: float) -> None:
    """Nine draws with one and the same chance have a distribution that everybody knows."""
    exact = sum(comb(9, k) * each**k * (1 - each) ** (9 - k) for k in range(number, 10))
    assert at_least(number, [each] * 9) == pytest.approx(exact)


@given(one=WEIGHTS, shifts=st.lists(st.floats(-0.05, 0.05), min_size=5, max_size=5), seed=st.integers(0, 99))
def test_a_race_of_exponentials_differs_no_more_often(
    one: list[float], shifts: list[float], seed: int
) -> None:
    """As vLLM draws: the likelihoods divided by exponential noise, which the seed makes the same twice."""
    other = [weight * np.exp(shift) for weight, shift in zip(one, shifts, strict=True)]
    noise = np.random.default_rng(seed).exponential(size=(4000, 5))
    first, second = (np.argmax(np.asarray(each) / sum(each) / noise, axis=1) for each in (one, other))
    bound = may_differ(drawn(one), drawn(other))
    assert float(np.mean(first != second)) <= bound + 4 * np.sqrt(bound / 4000)


def test_more_differ_than_likelihoods_explain() -> None:
    """Of the same likelihoods other tokens are all but impossible; far off ones explain everything."""
    before = [drawn([3, 2, 1, 1, 1], token=number % 5) for number in range(16)]
    after = [drawn([3, 2, 1, 1, 1], token=(number + number // 8) % 5) for number in range(16)]
    differing, likely = chance(before, after)
    assert differing == 8
    assert likely < 1e-20
    elsewhere = [drawn([1, 1, 1, 2, 30], token=4) for _ in range(16)]
    assert chance(before, elsewhere)[1] > 0.1


def test_without_candidates_nothing_is_unlikely() -> None:
    """As in recordings of older versions."""
    before, after = KindChoice(token_ids=(1,)), KindChoice(token_ids=(2,))
    assert chance([before] * 16, [after] * 16) == (16, 1.0)
