"""How far an answer lies from another one, for as long as the two had the same context.

After the first token that differs the contexts differ, and nothing can be compared any
more.  Up to and including that token the engine was asked the same question twice, and
its log-probabilities can be set against each other.  They are compared as *contrasts* to
the reference's likeliest token: these are differences of logits, so the normaliser, which
moves with every other token of the vocabulary, drops out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.check.answer_pair import Reply, repeated_ngrams, same_logprobs
from harness.history.passes import Method

_Floats: TypeAlias = npt.NDArray[np.float32]
_Ids: TypeAlias = npt.NDArray[np.int32]

LUCK = 5e-5
"""The least probability with which rounding may have made a sampled answer part, for it to be excused.

Shifts of the candidates' log-probabilities by up to ``e`` nat move the distribution by at most ``e / 2``
(total variation), and with the same random numbers an exponential race, as vLLM's sampler runs one, ends
with another winner with at most twice that probability: the shifts of all positions, added up, bound it.
"""


@dataclass(frozen=True, eq=False)
class Track:
    """An answer as arrays: the tokens it took and the candidates it weighed at each."""

    reply: Reply

    def repeated_ngrams(self, window: int) -> float:
        """How much of the first ``window`` tokens is repetition."""
        if window not in self._repeated:
            self._repeated[window] = repeated_ngrams(self.reply.answer.token_ids[:window])
        return self._repeated[window]

    @cached_property
    def _repeated(self) -> dict[int, float]:
        return {}

    @cached_property
    def tokens(self) -> npt.NDArray[np.int32]:
        """Token ids, shape [n]."""
        return np.asarray(self.reply.answer.token_ids, dtype=np.int32)

    @cached_property
    def ids(self) -> npt.NDArray[np.int32]:
        """Ids of the likeliest tokens, shape [n, k]; nothing where no log-probabilities were recorded."""
        logprobs = self.reply.answer.logprobs
        return logprobs.top_ids if logprobs is not None else np.empty((0, 0), dtype=np.int32)

    @cached_property
    def values(self) -> _Floats:
        """Their log-probabilities, shape [n, k]."""
        logprobs = self.reply.answer.logprobs
        return logprobs.top_values if logprobs is not None else np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far an answer lies from the reference that it shares the longest beginning with, nat."""

    positions: int
    """Tokens that could be compared."""
    typical: float
    """Mean shift over the positions."""
    furthest: float
    """Largest shift of a position, or how much likelier the reference held its own token where they part."""
    furthest_at: int
    scale: float = 1.0
    """Common factor of all contrasts to the reference's; 1 where nothing was rescaled."""


NONE = Distance(positions=0, typical=0.0, furthest=0.0, furthest_at=0)


def measure(track: Track, references: Sequence[Track]) -> Distance:
    """Measure ``track`` against whichever of ``references`` it shares the longest beginning with.

    Of equally long ones the first counts.
    """
    nearest, longest = None, -1
    for reference in references:
        if longest >= 0 and _parted_by(track, reference, longest):
            continue
        shared = common_prefix(track, reference)
        if shared > longest:
            nearest, longest = reference, shared
        if shared == len(track.tokens) == len(reference.tokens):
            break
    return NONE if nearest is None else distance_between(track, nearest, shared=longest)


def _parted_by(left: Track, right: Track, position: int) -> bool:
    """Whether a look at one position tells that two answers share no more than the tokens before it."""
    one, other = left.reply.answer.token_ids, right.reply.answer.token_ids
    return position >= min(len(one), len(other)) or one[position] != other[position]


def common_prefix(left: Track, right: Track) -> int:
    """Leading tokens two answers have in common."""
    if left.reply.answer.token_ids == right.reply.answer.token_ids:
        return len(left.tokens)
    shorter = min(len(left.tokens), len(right.tokens))
    if shorter == 0:
        return 0
    differs = left.tokens[:shorter] != right.tokens[:shorter]
    first = int(differs.argmax())
    return first if differs[first] else shorter


def distance_between(track: Track, reference: Track, *, shared: int) -> Distance:
    """Measure ``track`` against ``reference``, with which it has ``shared`` leading tokens in common.

    Where they part and nothing says how near they were to agreeing, they are infinitely far
    apart: without log-probabilities, or because one breaks off in the middle of the other.  Which
    token sampling takes says nothing about how likely it was; but with the same random numbers
    another one is taken only by luck, and that has to have been possible (:data:`LUCK`).
    """
    same = shared == len(track.tokens) == len(reference.tokens)
    if same and same_logprobs(track.reply.answer, reference.reply.answer):
        return Distance(positions=len(track.values), typical=0.0, furthest=0.0, furthest_at=0)
    comparable = min(shared + 1, len(track.values), len(reference.values))
    if not comparable:
        return Distance(positions=0, typical=0.0, furthest=np.inf, furthest_at=shared)
    with np.errstate(invalid="ignore"):  # where there is no candidate both sides are minus infinity
        by_position = shifts(track, reference, positions=comparable)
    furthest_at = int(np.argmax(by_position))
    furthest = float(by_position[furthest_at])
    if same:
        parting = 0.0
    elif track.reply.start.method is Method.SAMPLED:
        parting = 0.0 if by_position.sum() > LUCK else np.inf
    else:
        parting = _regret(track, reference, shared)
    return Distance(
        positions=comparable,
        typical=float(by_position.mean()),
        furthest=max(furthest, parting),
        furthest_at=furthest_at if furthest >= parting else shared,
        scale=common_factor(track, reference, positions=comparable),
    )


def common_factor(track: Track, reference: Track, *, positions: int) -> float:
    """The factor that takes the reference's contrasts nearest to the answer's (least squares).

    Noise moves single contrasts either way and leaves it at 1; a scaled logit moves all of them
    a little in one direction.  Positions that list other candidates, or in another order, are
    left out.
    """
    alike = np.flatnonzero((track.ids[:positions] == reference.ids[:positions]).all(axis=1))
    with np.errstate(invalid="ignore"):
        before, after = (each.values[alike, :1] - each.values[alike, 1:] for each in (reference, track))
    usable = np.isfinite(before) & np.isfinite(after)
    weight = float(np.square(before[usable]).sum())
    return float((before[usable] * after[usable]).sum()) / weight if weight else 1.0


def contrasts(track: Track) -> _Floats:
    """How much likelier the likeliest token was than each other that was listed, at every position, nat.

    What is not a finite number is left out.
    """
    with np.errstate(invalid="ignore"):
        differences = track.values[:, :1] - track.values[:, 1:]
    found: _Floats = differences[(track.ids[:, 1:] >= 0) & np.isfinite(differences)]
    return found


def shifts(track: Track, reference: Track, *, positions: int) -> _Floats:
    """Mean absolute shift at each of the first ``positions`` tokens, nat.

    It is taken over the likeliest token's own log-probability and the contrasts of the other
    candidates to it.  A candidate the answer no longer lists is less likely than every one it
    does list: its shift is the least that agrees with that, so what was not recorded never
    accuses.
    """
    ids, before = reference.ids[:positions], reference.values[:positions]
    listed, values = track.ids[:positions], track.values[:positions]
    if ids.shape == listed.shape:
        shift = values - before
        elsewhere = np.flatnonzero((ids != listed).any(axis=1))
    else:
        shift = np.empty_like(before)
        elsewhere = np.arange(positions)
    shift[elsewhere] = _looked_up(ids[elsewhere], before[elsewhere], listed[elsewhere], values[elsewhere])
    shift[:, 1:] -= shift[:, :1]
    shift = np.where(np.isnan(shift), np.inf, np.abs(shift))
    shift[ids < 0] = 0.0
    mean: _Floats = shift.sum(axis=1) / np.maximum((ids >= 0).sum(axis=1), 1)
    return mean


def _looked_up(ids: _Ids, before: _Floats, listed: _Ids, values: _Floats) -> _Floats:
    """How much each candidate's log-probability changed, where the candidates come in another order."""
    same = ids[:, :, np.newaxis] == listed[:, np.newaxis, :]
    after = np.where(same, values[:, np.newaxis, :], -np.inf).max(axis=2, initial=-np.inf)
    least_listed = values.min(axis=1, keepdims=True, initial=np.inf)
    found: _Floats = np.where(same.any(axis=2), after - before, np.minimum(least_listed - before, 0.0))
    return found


def _regret(track: Track, reference: Track, position: int) -> float:
    """How much likelier the reference held its own token than the one the other took."""
    if position >= min(len(track.tokens), len(reference.ids)):
        return np.inf
    ids, values = reference.ids[position], reference.values[position]
    taken = np.flatnonzero(ids == track.tokens[position])
    # A token that is not listed is less likely than the least of those that are.
    value = values[taken[0]] if len(taken) else values.min()
    return max(0.0, float(values[0] - value))
