"""The few exact tests that judging with noise rests on.  No p-value is ever 0.

All of them compare one answer a prompt, the one that is judged, with several answers a
prompt that were given when nothing had happened.  If nothing is wrong, any of a prompt's
answers could as well have been the judged one: the prompts are the units, and within each
every place is equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
"""One row a prompt, one column an answer; the judged answer's column is the last."""


@dataclass(frozen=True, kw_only=True)
class RankTest:
    """How likely the judged answers rank at least so high, or at least so low, by chance."""

    higher: float
    lower: float

    @property
    def two_sided(self) -> float:
        """The p-value when either direction would count."""
        return min(1.0, 2.0 * min(self.higher, self.lower))


def rank_test(scores: Scores) -> RankTest:
    """Sum the judged answers' ranks within their prompts and compare with every way they could fall.

    Ties get their mean rank.  The distribution is exact, given the ties: the sum of
    independent draws, one from each prompt's ranks.  With a single null answer a prompt
    this is the sign test; on yes-or-no scores it is McNemar's test.
    """
    ranks = _doubled_midranks(scores)
    chances: npt.NDArray[np.floating] = np.ones(1)
    for row in ranks:
        chances = np.convolve(chances, np.bincount(row) / len(row))
    observed = int(ranks[:, -1].sum())
    return RankTest(
        higher=_probability(chances[observed:]),
        lower=_probability(chances[: observed + 1]),
    )


def at_least(hits: int, *, of: int, rate: float) -> float:
    """How likely ``hits`` or more of so many independent trials are, each with probability ``rate``."""
    return sum(comb(of, each) * rate**each * (1.0 - rate) ** (of - each) for each in range(hits, of + 1))


def rising(values: Sequence[float]) -> float:
    """How likely so many pairs of values rise from the earlier to the later one, if any order is.

    Kendall's test: exact, for a pair that is equal counts as one that falls.
    """
    risen = sum(later > earlier for earlier, later in combinations(values, 2))
    chances: npt.NDArray[np.floating] = np.ones(1)
    for places in range(2, len(values) + 1):
        # Wherever the next value falls among those before it, it rises above so many of them.
        chances = np.convolve(chances, np.full(places, 1 / places))
    return _probability(chances[risen:])


def _doubled_midranks(scores: Scores) -> npt.NDArray[np.int64]:
    """Twice each score's rank within its row, counted from 0, so that halves become whole."""
    below = (scores[:, np.newaxis, :] < scores[:, :, np.newaxis]).sum(axis=2)
    not_above = (scores[:, np.newaxis, :] <= scores[:, :, np.newaxis]).sum(axis=2)
    ranks: npt.NDArray[np.int64] = below + not_above - 1
    return ranks


def _probability(chances: npt.NDArray[np.floating]) -> float:
    smallest = float(np.finfo(np.float64).tiny)
    return min(1.0, max(float(chances.sum()), smallest))


def exceedance(scores: Scores) -> float:
    """Count the judged answers that lie above every null answer of every prompt; return the p-value.

    By chance the largest of all scores is a judged one with probability ``1 / columns``, the
    two largest with less than its square, and so on.  A few prompts that are far off show
    here long before they move a sum over all prompts.
    """
    beyond = int((scores[:, -1] > scores[:, :-1].max()).sum())
    return float(scores.shape[1]) ** -beyond


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for being many (Holm 1979): each may be compared with the overall alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def smallest_p(*, rows: int, columns: int) -> float:
    """The least p-value :func:`rank_test` can give: every judged answer ranks first."""
    return float(columns) ** -rows
