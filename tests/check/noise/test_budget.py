"""One rate of false alarms a run, and no part of it spent twice."""

from __future__ import annotations

import pytest

from harness.check import judge, judge_run
from harness.check.evidence import Evidence
from harness.check.noise.budget import RUN_ALPHA, SHARES, ErrorBudget, Family, budget_of_check, told
from tests.check.simulation import Noise, Setup, simulate
from tests.check.stories import calibration_of


@pytest.mark.parametrize("cells", [1, 7, 400])
def test_the_parts_add_up_to_the_whole(cells: int) -> None:
    """Whatever all families of all cells spend comes to the rate of the run."""
    budget = ErrorBudget(cells=cells)
    spent = sum(budget.alpha(family, series=3) * 3 for family in Family) * cells
    assert spent == pytest.approx(RUN_ALPHA)
    assert set(SHARES) == set(Family)


def test_a_budget_is_for_something() -> None:
    """A run of no cell has nothing to spend it on."""
    with pytest.raises(ValueError, match="at least one cell"):
        ErrorBudget(cells=0)


def test_a_cell_of_a_large_run_takes_more_to_convict() -> None:
    """The same recording is held to stricter limits the more cells its run has."""
    recording = simulate(0, Setup(noise=Noise(heavy=True)))
    alone, one_of_many = (
        calibration_of(Evidence(recording, budget=ErrorBudget(cells=cells))) for cells in (1, 1000)
    )
    assert one_of_many.gross_limit > alone.gross_limit
    assert one_of_many._alpha_of_a_test == pytest.approx(alone._alpha_of_a_test / 1000)


def test_noise_does_not_become_too_coarse_by_being_checked_often() -> None:
    """A watch asks of the noise what its first check asks; what it claims becomes ever more certain."""
    recording = simulate(0, Setup(noise=Noise(heavy=True)))
    late = budget_of_check(100)
    as_cell, as_check = (
        calibration_of(Evidence(recording, budget=budget)) for budget in (ErrorBudget(cells=late.cells), late)
    )
    assert any("would not show" in each for each in as_cell.obstacles())
    assert not any("would not show" in each for each in as_check.obstacles())
    assert as_check.gross_limit == as_cell.gross_limit


def test_the_verdict_tells_its_error_rate() -> None:
    """What a verdict is worth is a part of it, in numbers and in words."""
    budget = ErrorBudget(cells=15)
    result = judge_run([judge(simulate(0), budget=budget)], run="run-1", budget=budget)
    rate = result.false_alarms
    assert rate == told(budget)
    assert rate is not None
    assert (rate.of_the_run, rate.cells) == (RUN_ALPHA, 15)
    assert sum(rate.of_a_family.values()) == pytest.approx(rate.of_a_cell)
    assert rate.statement == (
        "chance calls a healthy run corrupt or degraded with a probability of at most 1% "
        "(0.00067 for each of 15 cells), unless its answers become more than twice as noisy"
    )
    assert told(ErrorBudget()).statement.startswith(
        "chance calls a healthy run corrupt or degraded with a probability of at most 1% (in its one cell), "
    )
