"""Two answers to the same prompt, set side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.history.events import Answer, CacheCondition, PassStarted, Prompt


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
class Comparison:
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
        if before == after:
            return None
        shorter = min(len(before), len(after))
        return next((i for i in range(shorter) if before[i] != after[i]), shorter)

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
