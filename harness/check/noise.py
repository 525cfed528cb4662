"""How much answers differ when nothing happened."""

from __future__ import annotations

from collections.abc import Sequence

from harness.check.comparison import Comparison
from harness.check.result import NoiseFloor


def measure(null: Sequence[Comparison]) -> NoiseFloor | None:
    """Measure the noise floor on comparisons across null transitions; None where there are none.

    The floor is ``exact`` when tokens, endings and log-probabilities are all the same, bit
    by bit.  It is what was seen, not what is possible: what noise explains is for
    :mod:`harness.check.calibration` to say.
    """
    if not null:
        return None
    shifts = [comparison.logprob_shift for comparison in null]
    measured = [shift for shift in shifts if shift is not None]
    return NoiseFloor(
        compared=len(null),
        different=sum(not comparison.identical for comparison in null),
        reworded=sum(not (comparison.same_tokens and comparison.same_ending) for comparison in null),
        exact=all(comparison.identical for comparison in null),
        largest_logprob_shift=max(measured, default=None),
    )
