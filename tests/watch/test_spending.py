"""What a watch may take, and what it spends of its error rate."""

from __future__ import annotations

from itertools import pairwise

from harness.check.noise.budget import RUN_ALPHA, budget_of_check, told_of_a_sequence
from harness.watch.spending import HOUR_S, Spending


def test_checks_without_end_spend_no_more_than_one_run() -> None:
    """The parts of the first n add up to n / (n + 1) of the rate: never more than all of it."""
    parts = [budget_of_check(number).of_a_cell / RUN_ALPHA for number in range(1, 2001)]
    assert all(later < earlier for earlier, later in pairwise(parts))
    assert abs(sum(parts) - 2000 / 2001) < 1e-9


def test_the_rate_of_a_watch_is_told() -> None:
    """What all checks have together, and what the last one had."""
    rate = told_of_a_sequence(checks=3)
    assert (rate.of_the_run, rate.cells) == (RUN_ALPHA, 3)
    assert rate.of_a_cell == budget_of_check(3).of_a_cell
    assert "however often" in rate.statement


def test_nothing_waits_unless_it_is_limited() -> None:
    """Without limits a check may follow at once."""
    spending = Spending(most_tokens_per_hour=None, at_most_every_s=0)
    spending.checked(now=1.0)
    spending.spend(10**9, now=1.0)
    assert spending.waits_for(10**9, now=1.0) is None


def test_checks_keep_their_distance() -> None:
    """The next one may begin when the time is over."""
    spending = Spending(most_tokens_per_hour=None, at_most_every_s=30)
    assert spending.waits_for(1, now=0.0) is None
    spending.checked(now=0.0)
    assert "5 s ago, and one in 30 s" in (spending.waits_for(1, now=5.0) or "")
    assert spending.waits_for(1, now=30.0) is None


def test_an_hour_later_tokens_are_there_again() -> None:
    """What counts is any hour, not that of a clock."""
    spending = Spending(most_tokens_per_hour=100, at_most_every_s=0)
    spending.spend(60, now=0.0)
    spending.spend(30, now=1800.0)
    assert spending.waits_for(10, now=1801.0) is None
    assert "90 of the 100" in (spending.waits_for(11, now=1801.0) or "")
    assert spending.waits_for(70, now=HOUR_S) is None
