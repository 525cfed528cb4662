"""An answer, the baseline's answer to the same prompt beside it, and what can be measured on the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.history.passes import Answer, CacheCondition, PassStarted, Prompt

NGRAM = 4
"""Tokens in an n-gram of :func:`repeated_ngrams`: seq-rep-4 of unlikelihood training (arXiv 1908.04319)."""

LEAST_COPIES = 3
"""A pattern counts as a loop from its third copy on: two copies in a row are common in sound prose."""

_Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer together with the pass it came in."""

    start: PassStarted
    answer: Answer

    @property
    def cached(self) -> int:
        """Prompt tokens read from the prefix cache; 0 as well where the server does not tell."""
        return self.answer.cached_tokens or 0

    @property
    def shares_salt(self) -> bool:
        """Whether it was asked under the cell's own salt, so that earlier passes may serve it."""
        return self.start.cache is not CacheCondition.COLD


def mostly_cached(reply: Reply, prompt: Prompt) -> bool:
    """Whether most of the prompt was read from a cache.

    Prompts of one pass may share a system prompt: a little is cached even in a cold pass.
    """
    return 2 * reply.cached >= len(prompt.token_ids)


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """A reply beside the baseline's reply to the same prompt under like conditions.

    Neither of the two has failed.
    """

    prompt: Prompt
    reference: Reply
    reply: Reply

    @property
    def same_tokens(self) -> bool:
        """Whether the token ids are equal throughout."""
        return self.first_difference is None

    @property
    def same_ending(self) -> bool:
        """Whether both ended for the same reason."""
        return self.reference.answer.finish_reason == self.reply.answer.finish_reason

    @property
    def same_logprobs(self) -> bool:
        """Whether every recorded log-probability is the same, bit by bit."""
        return same_logprobs(self.reference.answer, self.reply.answer)

    @property
    def identical(self) -> bool:
        """Whether nothing that is judged differs."""
        return self.same_tokens and self.same_ending and self.same_logprobs

    @cached_property
    def first_difference(self) -> int | None:
        """Index of the first token that differs, or that only one of the two has; None if there is none."""
        before, after = self.reference.answer.token_ids, self.reply.answer.token_ids
        return None if before == after else common_prefix(before, after)

    @property
    def shared(self) -> int:
        """How many leading tokens the two have in common."""
        common = self.first_difference
        return len(self.reply.answer.token_ids) if common is None else common

    @cached_property
    def logprob_shift(self) -> float | None:
        """Largest shift of a shared token's log-probability, nat; None where nothing can be compared.

        Values that are no finite numbers are left out: they are the protocol checker's business.
        """
        before, after = self.reference.answer.logprobs, self.reply.answer.logprobs
        if before is None or after is None or self.shared == 0:
            return None
        with np.errstate(invalid="ignore"):
            shift = np.abs(before.chosen[: self.shared] - after.chosen[: self.shared])
        return float(np.max(shift, initial=0.0, where=np.isfinite(shift)))

    @cached_property
    def first_logprob_difference(self) -> int | None:
        """Index of the first shared token whose log-probability, or a candidate's, differs."""
        before, after = self.reference.answer.logprobs, self.reply.answer.logprobs
        if before is None or after is None or self.same_logprobs or before.k != after.k:
            return None
        n = self.shared
        differs = (
            (before.chosen[:n] != after.chosen[:n])
            | (before.top_ids[:n] != after.top_ids[:n]).any(axis=1)
            | (before.top_values[:n] != after.top_values[:n]).any(axis=1)
        )
        return int(np.argmax(differs)) if differs.any() else None

    @property
    def gap(self) -> float | None:
        """How sure the baseline was where the two part: its top-1 minus top-2 log-probability, nat."""
        return None if self.first_difference is None else gap_at(self.reference.answer, self.first_difference)

    @property
    def agreement(self) -> float:
        """Fraction of token positions that hold the same id, over the longer of the two."""
        before, after = self.reference.answer.token_ids, self.reply.answer.token_ids
        longer = max(len(before), len(after))
        if longer == 0:
            return 1.0
        return sum(a == b for a, b in zip(before, after, strict=False)) / longer


def common_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    """How many leading tokens, or characters, the two have in common."""
    shorter = min(len(left), len(right))
    return next((i for i in range(shorter) if left[i] != right[i]), shorter)


def same_logprobs(one: Answer, other: Answer) -> bool:
    """Whether two answers carry the same log-probabilities, bit by bit."""
    if one.logprobs is None or other.logprobs is None:
        return one.logprobs is other.logprobs
    left, right = one.logprobs, other.logprobs
    return (
        left.chosen_bytes == right.chosen_bytes
        and left.top_values_bytes == right.top_values_bytes
        and left.top_ids_bytes == right.top_ids_bytes
    )


def gap_at(answer: Answer, position: int) -> float | None:
    """Top-1 minus top-2 log-probability at ``position``, nat; None where fewer than two are recorded."""
    logprobs = answer.logprobs
    if logprobs is None or logprobs.k < 2 or not 0 <= position < len(logprobs.chosen):  # noqa: PLR2004 - a gap needs two
        return None
    first, second = (float(value) for value in logprobs.top_values[position, :2])
    return first - second if np.isfinite([first, second]).all() else None


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
