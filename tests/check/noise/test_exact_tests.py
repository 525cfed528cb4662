"""The exact tests, against their definitions and against scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy  # type: ignore[import-untyped]  # SciPy ships no types; what is used of it is loaded then
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.check.noise.exact_tests import (
    RankTest,
    Scores,
    at_least,
    exceedance,
    holm,
    rank_test,
    rising,
    smallest_p,
)

small_scores = st.tuples(st.integers(1, 4), st.integers(2, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 3).map(float))
)


def midrank(value: float, row: list[float]) -> float:
    """The mean place of ``value`` in ``row``, counted from 1."""
    return sum(other < value for other in row) + (sum(other == value for other in row) + 1) / 2


def rank_test_by_definition(scores: Scores) -> RankTest:
    """Try every way in which the judged answer of each prompt could have been another one of its answers."""
    ranks = [[midrank(value, row) for value in row] for row in scores.tolist()]
    observed = sum(row[-1] for row in ranks)
    sums = [sum(choice) for choice in product(*ranks)]
    return RankTest(
        higher=sum(total >= observed for total in sums) / len(sums),
        lower=sum(total <= observed for total in sums) / len(sums),
    )


@given(small_scores)
def test_ranks_are_exact(scores: Scores) -> None:
    """The convolution gives what enumeration gives, ties included."""
    expected = rank_test_by_definition(scores)
    found = rank_test(scores)
    assert found.higher == pytest.approx(expected.higher)
    assert found.lower == pytest.approx(expected.lower)


@given(st.integers(0, 20), st.integers(0, 20))
def test_one_null_answer_makes_it_the_sign_test(higher: int, lower: int) -> None:
    """With one null answer a prompt the test is scipy's exact binomial one; ties do not count."""
    scores = np.array([[0.0, 1.0]] * higher + [[1.0, 0.0]] * lower + [[1.0, 1.0]] * 3)
    found = rank_test(scores)
    if higher + lower:
        expected = scipy.stats.binomtest(higher, higher + lower, alternative="greater").pvalue
        assert found.higher == pytest.approx(expected)
        assert found.two_sided == pytest.approx(scipy.stats.binomtest(higher, higher + lower).pvalue)
    else:
        assert found == RankTest(higher=1.0, lower=1.0)


def test_the_surest_result_has_the_smallest_p() -> None:
    """When every judged answer ranks first the p-value is the smallest there is, and not 0."""
    scores = np.tile([1.0, 2.0, 3.0, 4.0, 5.0], (16, 1))
    assert (
        rank_test(scores).higher == pytest.approx(smallest_p(rows=16, columns=5)) == pytest.approx(5.0**-16)
    )
    assert rank_test(scores).lower == 1.0


def test_no_p_value_is_zero() -> None:
    """Not even where floating point cannot hold the true one."""
    assert rank_test(np.tile([1.0, 2.0], (2000, 1))).higher > 0


def test_two_sided_doubles_the_smaller_side() -> None:
    """Either direction counts, and no p-value exceeds 1."""
    assert RankTest(higher=0.2, lower=0.9).two_sided == 0.4
    assert RankTest(higher=0.9, lower=0.2).two_sided == 0.4
    assert RankTest(higher=0.6, lower=0.7).two_sided == 1.0


def test_p_values_are_honest() -> None:
    """On exchangeable scores a p-value is below any level no more often than the level says."""
    random = np.random.default_rng(3)
    found = np.array([rank_test(random.normal(size=(8, 5))).higher for _ in range(2000)])
    for level in (0.01, 0.05, 0.2):
        assert (found <= level).mean() <= level + 3 * np.sqrt(level / 2000)
    assert 0.45 < found.mean() < 0.56


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[1.0, 2.0, 0.5], [3.0, 1.0, 2.9]], 1.0),
        ([[1.0, 2.0, 3.0], [3.0, 1.0, 2.9]], 1.0),
        ([[1.0, 2.0, 3.5], [3.0, 1.0, 2.9]], 1 / 3),
        ([[1.0, 2.0, 3.5], [3.0, 1.0, 3.1]], 1 / 9),
    ],
)
def test_exceedance_by_example(scores: list[list[float]], expected: float) -> None:
    """Only judged answers beyond every null answer of every prompt count; a tie does not."""
    assert exceedance(np.array(scores)) == pytest.approx(expected)


def test_exceedance_is_honest() -> None:
    """On exchangeable scores it alarms no more often than its p-value says, whatever the prompts' scales."""
    random = np.random.default_rng(4)
    scale = random.gamma(2.0, size=(16, 1))
    found = np.array([exceedance(scale * random.normal(size=(16, 5))) for _ in range(3000)])
    for level in (1 / 5, 1 / 25):
        assert (found <= level).mean() <= level + 3 * np.sqrt(level / 3000)


def test_holm_by_example() -> None:
    """The smallest is multiplied by the number of tests, the next by one less; their order stays."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=8))
def test_holm_lies_between_nothing_and_bonferroni(p_values: list[float]) -> None:
    """No p-value is made smaller, none larger than Bonferroni's, none smaller than Benjamini-Hochberg's."""
    adjusted = holm(p_values)
    for before, after in zip(p_values, adjusted, strict=True):
        assert before <= after <= min(1.0, before * len(p_values)) + 1e-12
    assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * len(p_values)))
    assert (np.array(adjusted) >= scipy.stats.false_discovery_control(p_values) - 1e-12).all()


@given(st.permutations(range(7)))
def test_a_rise_is_judged_as_by_kendall(order: list[int]) -> None:
    """Scipy computes the same exact probability."""
    expected = scipy.stats.kendalltau(range(7), order, alternative="greater", method="exact").pvalue
    assert rising([float(each) for each in order]) == pytest.approx(expected)


def test_equal_values_do_not_rise() -> None:
    """Nor do too few of them."""
    assert (rising([1.0] * 9), rising([1.0])) == pytest.approx((1.0, 1.0))


@given(st.integers(0, 12), st.floats(0.0, 1.0))
def test_hits_are_counted_as_by_the_binomial_test(hits: int, rate: float) -> None:
    """Scipy computes the same exact probability."""
    expected = scipy.stats.binomtest(hits, 12, rate, alternative="greater").pvalue
    assert at_least(hits, of=12, rate=rate) == pytest.approx(expected, abs=1e-12)
