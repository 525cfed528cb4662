"""How much answers differ when nothing happened, how much is too much, and what may then still hide.

All constants were fixed before anything was measured with them, and are the same for every
engine.  What depends on the engine is measured on its own baseline and null transitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.check.answer_pair import AnswerPair
from harness.check.noise.exact_tests import Scores, rank_test, smallest_p
from harness.check.result import Bound, NoiseFloor
from harness.check.wording import counted

LEAST_NULL_ANSWERS = 4
"""Matched null answers a prompt needs: with fewer, one odd null pass decides everything."""

MARGIN = 1.25
"""By what factor judged answers must lie further off than null answers do when they lie off, to be noted.

A whole pass may be somewhat noisier than the null passes for reasons that harm nobody, such
as how its requests fell into batches; significance alone would tell.
"""

PROOF = 2.0
"""By what factor answers of a pass must lie further off together, to prove damage.

In between is doubt: an engine may be half as noisy again after a transition, and harm nobody.
"""

NEARLY_ALL = 1 / 4
"""Of the answers of a pass lie less far off than what they have in common is taken to be."""

LEAST_SCALE = 0.005
"""From which part on a common factor of all contrasts matters: half a percent changes no answer."""

GROSS = 4.0
"""By what factor a single answer must lie further off than every null answer, at the least."""

TAIL_SHARE = 8
"""One in so many null answers counts as the tail from which its heaviness is estimated."""

RESOLUTION = 1e-3
"""nat; shifts below this are the order of float32 additions, which changes with every batch."""

UNITS = 2.0
"""How many units in its last place a difference of two rounded numbers may be off."""

COARSEST, FINEST = 1.0, 2.0**-10
"""nat; between these the rounding of logits is looked for."""

ON_GRID = 0.8
"""Which part of the contrasts must lie on a grid for it to be the one logits are rounded to."""

TOO_COARSE = 6.0
"""nat; if a single answer would have to lie this far off to be seen, the noise hides too much."""

BOUNDLESS = 50.0
"""nat; no two logits of a working model lie further apart."""

CONFIDENCE = 0.95
"""Of the upper limit that a clean verdict comes with."""


def rounding_step(contrasts: npt.NDArray[np.floating]) -> float:
    """The grid that logits are rounded to, nat; 0 where it is too fine to matter.

    An engine that computes in bf16 rounds logits between 16 and 32 to multiples of 0.125, and
    the differences between them show it.  Noise of a unit in that last place is possible even
    where a few null transitions showed none.
    """
    step = COARSEST
    while len(contrasts) and step >= FINEST:
        off_grid = np.abs(contrasts - step * np.round(contrasts / step))
        if (off_grid < FINEST / 100).mean() >= ON_GRID:
            return step
        step /= 2
    return 0.0


def resolution(step: float) -> float:
    """The largest shift that rounding alone explains, nat."""
    return max(RESOLUTION, UNITS * step)


def gross_limit(null: Sequence[float], *, judged: int, resolution: float, alpha: float) -> float:
    """How far a single judged answer may lie off, nat, given how far each null answer does.

    ``GROSS`` times the furthest null answer, or what rounding alone explains; more where the
    null answers have a heavy tail.  The tail's index is Hill's (1975), from the furthest
    eighth, as far as that lies off at all: a tail of index ``x`` exceeds ``c`` times the furthest
    of ``n`` with probability ``c ** (-1 / x) / n``.  ``alpha`` is the chance that any of the ``judged``
    answers of a healthy engine lies further off than the limit.
    """
    ordered = np.maximum(np.sort(np.asarray(null, dtype=np.float64))[::-1], resolution)
    if not len(ordered):
        return GROSS * resolution
    if np.isinf(ordered[0]):
        return float("inf")
    # Equal answers say how often noise strikes, not how far: the tail ends where they begin.
    off = int((ordered > resolution).sum())
    tail = max(0, min(max(2, len(ordered) // TAIL_SHARE), off - 1))
    index = float(np.log(ordered[:tail] / ordered[tail]).mean()) if tail else 0.0
    rarity = max(1.0, judged / len(ordered)) / alpha
    return float(max(GROSS, rarity**index) * ordered[0])


def typical_ratio(scores: Scores, *, resolution: float) -> float:
    """How many times as far off the judged answers typically lie as null answers do.

    Each is held against its prompt's own scale: how far null answers typically lie off when
    they lie off at all.  Where whole null passes lie further off than that, the noisiest
    of them is what counts.
    """
    scales = null_scales(scores[:, :-1], resolution=resolution)
    return float(np.median(scores[:, -1:] / scales)) / noisiest_pass(scores[:, :-1], scales)


def common_ratio(scores: Scores, *, resolution: float) -> float:
    """How many times as far off nearly all judged answers lie as those of the noisiest null pass; at least 1.

    A pass that is noisier as a whole takes nearly all answers further; damage to some of them does not.
    """
    scales = null_scales(scores[:, :-1], resolution=resolution)
    passes: npt.NDArray[np.float64] = np.quantile(scores / scales, NEARLY_ALL, axis=0)
    return max(1.0, float(passes[-1]) / max([1.0, *map(float, passes[:-1])]))


def noisiest_pass(null: Scores, scales: Scores) -> float:
    """How far off, in its prompts' scales, the noisiest null pass typically lies; at least 1."""
    return max(float(np.median(null / scales, axis=0).max()), 1.0)


def null_scales(null: Scores, *, resolution: float) -> Scores:
    """One scale a prompt: the median of its null answers that lie off at all.

    Prompts whose null answers are all equal take the scale of the others, and a quarter of what
    rounding explains if there are none: rounding moves few tokens of an answer.
    """
    counts = (null > 0).sum(axis=1)
    common = float(np.median(null[null > 0])) if counts.any() else resolution / 4
    ordered = np.sort(np.where(null > 0, null, np.inf), axis=1)
    rows = np.arange(len(null))
    middle = (ordered[rows, np.maximum(counts - 1, 0) // 2] + ordered[rows, counts // 2]) / 2
    scales = np.where(counts > 0, middle, common)
    return np.asarray(np.maximum(scales, RESOLUTION)[:, np.newaxis], dtype=np.float64)


def prompts_needed(*, columns: int, alpha: float) -> int:
    """How many prompts the rank test needs before anything could alarm."""
    rows = 1
    while smallest_p(rows=rows, columns=columns) > alpha:
        rows += 1
    return rows


def smallest_shift(scores: Scores, *, alpha: float, resolution: float) -> float | None:
    """The least addition to every judged score that would have alarmed, to a twentieth of itself, nat.

    None if it would have to be larger than ``TOO_COARSE``.
    """
    scales = null_scales(scores[:, :-1], resolution=resolution)
    noisiest = noisiest_pass(scores[:, :-1], scales)

    def alarms(shift: float) -> bool:
        judged = scores[:, -1:] + shift
        material = float(np.median(judged / scales)) > PROOF * noisiest
        return material and rank_test(np.hstack([scores[:, :-1], judged])).higher <= alpha

    high = RESOLUTION
    while not alarms(high):
        high *= 2
        if high > TOO_COARSE:
            return None
    low = 0.0
    while high - low > high / 20:
        middle = (low + high) / 2
        low, high = (low, middle) if alarms(middle) else (middle, high)
    return high


def noise_floor(null: Sequence[AnswerPair]) -> NoiseFloor | None:
    """Measure how much answers differ across null transitions; None where there are none.

    The floor is ``exact`` when tokens, endings and log-probabilities are all the same, bit
    by bit.  It is what was seen, not what is possible: what noise explains is for
    :mod:`harness.check.noise.calibration` to say.
    """
    if not null:
        return None
    shifts = [pair.logprob_shift for pair in null]
    measured = [shift for shift in shifts if shift is not None]
    return NoiseFloor(
        compared=len(null),
        different=sum(not pair.identical for pair in null),
        reworded=sum(not (pair.same_tokens and pair.same_ending) for pair in null),
        exact=all(pair.identical for pair in null),
        largest_logprob_shift=max(measured, default=None),
    )


def rule_out(
    *, prompts: int, requests: int, passes: int, alone: float | None = None, together: float | None = None
) -> Bound:
    """Upper limits of the affected-prompt and the affected-request rate when nothing was affected.

    Damage that sticks to a prompt shows in all its answers, which are no independent samples of what users
    send: there the unit is the prompt.  Damage that comes and goes may strike any of ``requests``: there the
    unit is the request.  The limit is Clopper and Pearson's (1934), exact and closed for zero
    events: ``1 - (1 - confidence) ** (1 / units)``.

    Where there is noise, an answer counts as affected if it lies off by ``alone`` nat, and the
    answers of a pass if they lie off by ``together`` more than null answers do: the smallest
    effects the run could have seen.
    """
    of_prompts, of_requests = (1.0 - (1.0 - CONFIDENCE) ** (1.0 / units) for units in (prompts, requests))
    compared = f"{counted(prompts, 'prompt')} compared in {counted(passes, 'pass', 'passes')}"
    hidden = "none differed" if alone is None else f"none {_smallest_effect(alone, together)}"
    return Bound(
        affected_prompts_below=of_prompts,
        confidence=CONFIDENCE,
        comparisons=prompts,
        affected_requests_below=of_requests,
        requests=requests,
        statement=f"affected prompts < {of_prompts:.1%}, affected requests < {of_requests:.1%} "
        f"at {CONFIDENCE:.0%} ({compared}, {hidden})",
        smallest_single_shift=alone,
        smallest_common_shift=together,
    )


def _smallest_effect(alone: float, together: float | None) -> str:
    one = f"off by {alone:.2g} nat"
    return one if together is None else f"{one}, nor all of a pass together by {together:.2g}"
