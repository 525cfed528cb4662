"""What a clean verdict does not exclude."""

from __future__ import annotations

import pytest
import scipy  # type: ignore[import-untyped]  # SciPy ships no types; what is used of it is loaded then

from harness.check.noise import limits


def highest_rate(asked: int) -> float:
    """The most that may be wrong where none of so many was, as SciPy says."""
    limit = scipy.stats.binomtest(0, asked, alternative="less").proportion_ci(0.95, method="exact").high
    return float(limit)


@pytest.mark.parametrize("prompts", [1, 2, 16, 59, 300, 3000])
def test_the_limit_is_the_exact_binomial_one(prompts: int) -> None:
    """The closed form equals Clopper and Pearson's one-sided upper limit for zero events."""
    exact = highest_rate(prompts)
    limit = limits.rule_out(prompts=prompts, requests=3 * prompts, passes=3)
    assert limit.affected_prompts_below == pytest.approx(exact)
    assert (limit.comparisons, limit.confidence) == (prompts, 0.95)
    now_and_then = (
        scipy.stats.binomtest(0, 3 * prompts, alternative="less").proportion_ci(0.95, method="exact").high
    )
    assert limit.affected_requests_below == pytest.approx(now_and_then)
    assert limit.requests == 3 * prompts


def test_the_statement_can_be_read() -> None:
    """The limit is put in words, with what it rests on."""
    assert limits.rule_out(prompts=16, requests=96, passes=6).statement == (
        "affected prompts < 17.1%, affected requests < 3.1% at 95% "
        "(16 prompts compared in 6 passes, none differed)"
    )
    least = limits.rule_out(prompts=1, requests=1, passes=1)
    assert "(1 prompt compared in 1 pass, none differed)" in least.statement


@pytest.mark.parametrize(
    ("alone", "together", "hidden"),
    [
        (None, None, "none differed"),
        (0.0123, None, "none off by 0.012 nat"),
        (2.0, 0.0345, "none off by 2 nat, nor all of a pass together by 0.035"),
    ],
)
def test_what_noise_may_hide_is_part_of_the_statement(
    alone: float | None, together: float | None, hidden: str
) -> None:
    """With noise a clean verdict names the smallest effects it could have seen, in words and in numbers."""
    limit = limits.rule_out(prompts=16, requests=16, passes=1, alone=alone, together=together)
    assert limit.statement.endswith(f"(16 prompts compared in 1 pass, {hidden})")
    assert (limit.smallest_single_shift, limit.smallest_common_shift) == (alone, together)
