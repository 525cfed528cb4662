"""The one rate of false alarms of a run, split over its cells and over the families of tests of each.

Every test that compares a chance with a threshold spends a part of it; no two spend the same part, so the
parts add up (Bonferroni): whatever the tests have to do with each other, a run whose engines all came back
the same is called corrupt or degraded by one of them with at most :data:`RUN_ALPHA`.  That is true as long as
an engine does not become more than twice as noisy after a transition (docs/calibration.md).

What is claimed without any chance has no part in it: differences where nothing differed before and the
engine computes finely, protocols that are broken, memory and time beyond a fixed limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from harness.check.result import FalseAlarms

RUN_ALPHA = 1e-2
"""The chance of a false alarm in a run whose engines all came back the same."""


class Family(StrEnum):
    """Tests that answer one kind of question."""

    TOGETHER = "answers of a pass together"
    SINGLE = "single answers far off"
    MEMORY = "memory that grows"
    SPEED = "steps that slow down"
    DRAWS = "tokens drawn with the same seeds"
    AGREEMENT = "the baseline held against itself"
    """It accuses of nothing that sleep did; still, a healthy engine should not be doubted by chance."""


SHARES: Mapping[Family, float] = MappingProxyType(
    {
        Family.TOGETHER: 1 / 2,
        Family.SINGLE: 3 / 16,
        Family.MEMORY: 1 / 8,
        Family.SPEED: 1 / 8,
        Family.DRAWS: 1 / 32,
        Family.AGREEMENT: 1 / 32,
    }
)
"""The part of a cell's alpha that each family spends; answers are what a run is about, their tests many."""


@dataclass(frozen=True, kw_only=True)
class ErrorBudget:
    """What a run may spend on false alarms.

    Args:
        cells: All cells that the run was to have, those that never began included: how many came to a
            verdict must not change the verdict of any.
        in_turn: Whether it is the part of one check in a sequence without an end.  Whether noise is too
            coarse to tell anything is then decided by what the first check could tell: else every engine
            with noise would come to be called that, by nothing but being checked often.
    """

    cells: int = 1
    in_turn: bool = False

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise ValueError(f"a budget is split over at least one cell, not over {self.cells}")

    @property
    def of_a_cell(self) -> float:
        """The part of one cell."""
        return RUN_ALPHA / self.cells

    @property
    def of_first_check(self) -> ErrorBudget:
        """Of the first check of the sequence."""
        return budget_of_check(1)

    def alpha(self, family: Family, *, series: int = 1) -> float:
        """What a family of tests may spend in one cell, or each of so many ``series`` that share it."""
        return self.of_a_cell * SHARES[family] / max(1, series)


OF_ONE_CELL = ErrorBudget()
"""Of a cell that is a run by itself."""


def budget_of_check(number: int) -> ErrorBudget:
    """Of one check in a sequence without an end: all of them together spend the rate of one run.

    The k-th of them, counted from 1, spends 1 / (k * (k + 1)) of it; these parts add up to 1.
    """
    return ErrorBudget(cells=number * (number + 1), in_turn=True)


def told_of_a_sequence(*, checks: int) -> FalseAlarms:
    """The budget of so many checks, of any number to come, as ``verdict.json`` and the reports tell it."""
    last = budget_of_check(max(1, checks))
    return FalseAlarms(
        of_the_run=RUN_ALPHA,
        cells=checks,
        of_a_cell=last.of_a_cell,
        of_a_family={family.value: last.alpha(family) for family in Family},
        statement=(
            f"chance ever calls a healthy engine corrupt or degraded with a probability of at most "
            f"{RUN_ALPHA:.0%}, however often it is checked ({last.of_a_cell:.2g} for check "
            f"{max(1, checks)}), unless its answers become more than twice as noisy"
        ),
    )


def told(budget: ErrorBudget) -> FalseAlarms:
    """The budget as ``verdict.json`` and the reports tell it."""
    each = f"{budget.of_a_cell:.2g} for each of {budget.cells} cells"
    split = each if budget.cells > 1 else "in its one cell"
    return FalseAlarms(
        of_the_run=RUN_ALPHA,
        cells=budget.cells,
        of_a_cell=budget.of_a_cell,
        of_a_family={family.value: budget.alpha(family) for family in Family},
        statement=(
            f"chance calls a healthy run corrupt or degraded with a probability of at most {RUN_ALPHA:.0%} "
            f"({split}), unless its answers become more than twice as noisy"
        ),
    )
