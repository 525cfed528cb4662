"""Whether answers repeat themselves more, or less, than the same prompt's baseline.

Small models repeat by nature, so nothing is held against a constant: every answer is
measured beside its own baseline on equally long windows.  The comparison is two-sided:
loops raise the measures, garbage lowers them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.check.comparison import Comparison
from harness.check.result import Finding, Strength
from harness.check.wording import occasion

NGRAM = 4
"""Tokens in an n-gram of :func:`repeated_ngrams`: seq-rep-4 of unlikelihood training (arXiv 1908.04319)."""

LEAST_COPIES = 3
"""A pattern counts as a loop from its third copy on: two copies in a row are common in sound prose."""

SMALLEST_WINDOW = 12
"""Tokens below which an answer is too short to tell a loop from chance."""

NOTABLE = 0.25
"""A shift of either measure, both between 0 and 1, from which it is worth a sentence."""

_Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The longest stretch of an answer that repeats one pattern over and over."""

    period: int
    start: int
    length: int


def repeated_ngrams(token_ids: tuple[int, ...], *, n: int = NGRAM) -> float:
    """Fraction of n-grams that occurred before; 0 where there are fewer than two."""
    grams = len(token_ids) - n + 1
    if grams < 2:  # noqa: PLR2004 - one n-gram cannot repeat
        return 0.0
    return 1.0 - len(set(zip(*(token_ids[i:] for i in range(n)), strict=False))) / grams


def find_loop(token_ids: tuple[int, ...]) -> Loop | None:
    """Find the longest stretch of three or more copies of one pattern; of equals, the shortest period."""
    ids: _Ids = np.asarray(token_ids, dtype=np.int64)
    longest: Loop | None = None
    for period in range(1, len(ids) // LEAST_COPIES + 1):
        start, run = _longest_run(ids[period:] == ids[:-period])
        length = run + period
        if length >= LEAST_COPIES * period and (longest is None or length > longest.length):
            longest = Loop(period=period, start=start, length=length)
    return longest


def _longest_run(flags: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest run of true values starts, and how long it is."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    widest = int(np.argmax(ends - starts))
    return int(starts[widest]), int(ends[widest] - starts[widest])


def coverage(loop: Loop | None, tokens: int) -> float:
    """Fraction of an answer of ``tokens`` tokens that ``loop`` covers."""
    return 0.0 if loop is None else loop.length / tokens


def check(suspects: Iterable[Comparison], *, strength: Strength) -> tuple[Finding, ...]:
    """Tell of every suspect that repeats itself notably more, or less, than its baseline."""
    found = (_finding(comparison, strength) for comparison in suspects if not comparison.same_tokens)
    return tuple(finding for finding in found if finding is not None)


def _finding(comparison: Comparison, strength: Strength) -> Finding | None:
    before, after = comparison.reference.answer.token_ids, comparison.reply.answer.token_ids
    window = min(len(before), len(after))
    before, after = before[:window], after[:window]
    if window < SMALLEST_WINDOW:
        return None
    loop_before, loop_after = find_loop(before), find_loop(after)
    ngrams_before, ngrams_after = repeated_ngrams(before), repeated_ngrams(after)
    covered_before, covered_after = coverage(loop_before, window), coverage(loop_after, window)
    if max(abs(ngrams_after - ngrams_before), abs(covered_after - covered_before)) < NOTABLE:
        return None
    reply = comparison.reply
    return Finding(
        checker="repetition",
        message=f"{comparison.prompt.id}, {occasion(reply.start)}: "
        + _sentence(loop_before, loop_after, window, ngrams_before=ngrams_before, ngrams_after=ngrams_after),
        strength=strength,
        prompt=comparison.prompt.id,
        pass_number=reply.start.number,
        cycle=reply.start.cycle,
        evidence={
            "window": window,
            "period": loop_after.period if loop_after else None,
            "coverage": round(covered_after, 4),
            "baseline_coverage": round(covered_before, 4),
            "repeated_ngrams": round(ngrams_after, 4),
            "baseline_repeated_ngrams": round(ngrams_before, 4),
        },
    )


def _sentence(
    loop_before: Loop | None,
    loop_after: Loop | None,
    window: int,
    *,
    ngrams_before: float,
    ngrams_after: float,
) -> str:
    looped = loop_before.length if loop_before else 0
    if loop_after is not None and loop_after.length > looped:
        pattern = "one token" if loop_after.period == 1 else f"{loop_after.period} tokens"
        return (
            f"repeats {pattern} over {loop_after.length} of {window} tokens; the baseline loops over {looped}"
        )
    direction = "more" if ngrams_after > ngrams_before else "less"
    return (
        f"repeats itself {direction} than its baseline: {ngrams_after:.0%} of the {NGRAM}-grams "
        f"in the first {window} tokens are repeats, {ngrams_before:.0%} in the baseline"
    )
