"""Whether tokens drawn with the same random numbers differ more often than their likelihoods explain.

A seed makes chance the same twice.  Where the likelihoods are the same as well, so is every token; where
they differ a little, as in an engine that computes coarsely, a token differs only if its random number fell
between the two.  For draws by a race of exponentials (Gumbel's trick), as vLLM's, the chance of that is at
most 2 d / (1 + d) with d the distance of the two distributions in total variation (Bavarian et al., "The
optimality of correlated sampling", 2016); for draws from a cumulated distribution of few candidates it is of
that size.  Here it is taken as 2 d.  Seeds of different requests have nothing to do with each other, so that
the number of tokens that differ is a sum of independent events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp

import numpy as np
from numpy.typing import NDArray

from harness.history.kinds import KindChoice

_LEAST = 1e-4
"""No draw is taken for more certain than this: likelihoods are told, and drawn from, in 32 bits."""


def chance(before: Sequence[KindChoice], after: Sequence[KindChoice]) -> tuple[int, float]:
    """How many first tokens differ, and how likely as many or more are where the seeds are the same.

    Where candidates were not told, every draw may differ, and nothing is unlikely.
    """
    pairs = list(zip(before, after, strict=False))
    differing = sum(one.token_ids[:1] != other.token_ids[:1] for one, other in pairs)
    return differing, at_least(differing, [may_differ(one, other) for one, other in pairs])


def may_differ(one: KindChoice, other: KindChoice) -> float:
    """The most likely that the first token of two answers differs, if it was drawn with the same chance."""
    first, second = _distribution(one.candidates), _distribution(other.candidates)
    if not first or not second:
        return 1.0
    tokens = first.keys() | second.keys()
    distance = sum(abs(first.get(token, 0.0) - second.get(token, 0.0)) for token in tokens) / 2
    return min(1.0, max(_LEAST, 2 * distance))


def at_least(number: int, chances: Sequence[float]) -> float:
    """The chance that so many of independent events with these ``chances`` come true, or more."""
    distribution: NDArray[np.float64] = np.ones(1)
    for each in chances:
        distribution = np.convolve(distribution, np.asarray((1 - each, each)))
    return float(min(1.0, distribution[number:].sum()))


def _distribution(candidates: Iterable[tuple[int, float]]) -> Mapping[int, float]:
    """The candidates' likelihoods, which add up to 1: no other token may be drawn."""
    weights = {token: exp(logprob) for token, logprob in candidates}
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()} if total else {}
