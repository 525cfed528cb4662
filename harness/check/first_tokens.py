"""Whether answers still begin as they did.

A first token comes from the prompt alone, through all weights and buffers.  If its candidates
stand to each other as before, the model computed what it should, and damage further on is in
what became of it.  A factor common to all counts as "as before": it is applied to finished
logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.check.comparison import Comparison

_Pairs: TypeAlias = npt.NDArray[np.float64]

SMALLEST_CONTRAST = 0.1
"""nat; nearer candidates say too little about a common factor."""


def count_intact(comparisons: Sequence[Comparison], *, tolerance: float) -> int:
    """How many answers begin with the same contrasts as their baseline, up to one common factor.

    ``tolerance`` is how far a contrast may be off, nat.
    """
    pairs = [_contrasts(comparison) for comparison in comparisons]
    factor = _common_factor(pairs)
    return sum(
        len(each) > 0 and bool((np.abs(each[:, 1] - factor * each[:, 0]) <= tolerance).all())
        for each in pairs
    )


def _contrasts(comparison: Comparison) -> _Pairs:
    """Contrasts of the first token's candidates to the likeliest, before and after; none if that is lost."""
    before, after = comparison.reference.answer.logprobs, comparison.reply.answer.logprobs
    if before is None or after is None or not len(before.chosen) or not len(after.chosen):
        return np.empty((0, 2))
    now = dict(zip(after.top_ids[0].tolist(), after.top_values[0].tolist(), strict=True))
    was = list(zip(before.top_ids[0].tolist(), before.top_values[0].tolist(), strict=True))
    likeliest, value = was[0]
    if likeliest not in now:
        return np.empty((0, 2))
    found = [
        (value - other, now[likeliest] - now[token])
        for token, other in was[1:]
        if token >= 0 and token in now
    ]
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def _common_factor(pairs: Sequence[_Pairs]) -> float:
    every = np.concatenate([np.empty((0, 2)), *pairs])
    clear = every[every[:, 0] >= SMALLEST_CONTRAST]
    return float(np.median(clear[:, 1] / clear[:, 0])) if len(clear) else 1.0
