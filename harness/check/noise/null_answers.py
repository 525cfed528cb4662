"""Judged answers beside the null answers that were given under like conditions.

A null answer matches a judged one if it is to the same prompt, of the same baseline, by the same method at
the same concurrency, and both were computed or both served from the prefix cache: the two kinds round
differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from harness.check.answer_pair import Reply, mostly_cached
from harness.check.noise import limits
from harness.check.noise.distance import NONE, Distance, Track, contrasts, measure
from harness.history.passes import Method, Prompt

Conditions: TypeAlias = tuple[str, str | None, Method, int, bool]
"""Prompt, baseline, method, concurrency, and whether the prompt came from the prefix cache."""


@dataclass(frozen=True, eq=False)
class Pool:
    """What a prompt was answered under some conditions before anything happened to the engine."""

    baseline: tuple[Track, ...] = ()
    null: tuple[Track, ...] = ()

    @property
    def tells_noise(self) -> bool:
        """Whether any null answer has another one, or the baseline's, that it could differ from."""
        return bool(self.null) and len(self.baseline) + len(self.null) > 1

    @cached_property
    def distances(self) -> tuple[Distance, ...]:
        """How far each null answer lies from the nearest of all the others."""
        return tuple(
            measure(track, (*self.baseline, *self.null[:i], *self.null[i + 1 :]))
            for i, track in enumerate(self.null)
        )

    @cached_property
    def spread(self) -> float:
        """How far off the furthest of all these answers lies, the baseline's included, nat."""
        baseline = (
            measure(track, (*self.baseline[:i], *self.baseline[i + 1 :], *self.null))
            for i, track in enumerate(self.baseline)
        )
        return max((each.furthest for each in (*self.distances, *baseline)), default=0.0)

    def distance_of(self, track: Track, *, leave_out: int = 0) -> Distance:
        """How far an answer from outside lies from the nearest of the pool.

        One null answer is left out, so that a judged answer has as many to be near to as
        each null answer has, unless it is the only one there is.
        """
        left_out = leave_out % len(self.null) if self.null else 0
        others = (*self.baseline, *self.null[:left_out], *self.null[left_out + 1 :])
        return measure(track, others or self.null)


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One judged answer, how far it lies from its pool, and the pool."""

    track: Track
    distance: Distance
    pool: Pool

    @property
    def decoded(self) -> bool:
        """Whether its tokens were decoded one by one, not scored in one prefill."""
        return self.track.reply.start.method is not Method.SCORED

    @property
    def exceeds(self) -> bool:
        """Whether it typically lies further off than every null answer does."""
        return self.distance.typical > max((each.typical for each in self.pool.distances), default=0.0)


class NullAnswers:
    """Finds the pool of an answer, and keeps what was measured."""

    def __init__(
        self, *, prompts: Mapping[str, Prompt], baseline: Sequence[Reply], null: Sequence[Reply]
    ) -> None:
        self._prompts = prompts
        self._baseline = baseline
        self._null = null
        self._places = {prompt: place for place, prompt in enumerate(prompts)}

    @cached_property
    def pools(self) -> Mapping[Conditions, Pool]:
        """Every pool there is."""
        baseline = self._by_conditions(self._baseline)
        null = self._by_conditions(self._null)
        return {
            conditions: _pool(conditions, baseline=baseline, null=null)
            for conditions in baseline.keys() | null.keys()
        }

    def row(self, reply: Reply) -> Row:
        """Measure one answer against its pool."""
        pool = self.pools.get(self.conditions(reply), Pool())
        track = Track(reply)
        place = self._places[reply.answer.prompt]
        measured = pool.distance_of(track, leave_out=place) if pool.baseline or pool.null else NONE
        return Row(track=track, distance=measured, pool=pool)

    def rows(self, replies: Iterable[Reply]) -> list[Row]:
        """Measure several answers."""
        return [self.row(reply) for reply in replies]

    def conditions(self, reply: Reply) -> Conditions:
        """Under which conditions an answer was given."""
        start = reply.start
        return (
            reply.answer.prompt,
            start.reference,
            start.method,
            start.concurrency,
            self.from_cache(reply),
        )

    def from_cache(self, reply: Reply) -> bool:
        """Whether its prompt was read from the prefix cache, as far as the server tells."""
        if reply.answer.cached_tokens is None:
            return reply.shares_salt
        return mostly_cached(reply, self._prompts[reply.answer.prompt])

    def _by_conditions(self, replies: Sequence[Reply]) -> dict[Conditions, list[Track]]:
        tracks: dict[Conditions, list[Track]] = {}
        for reply in replies:
            if reply.answer.failure is None:
                tracks.setdefault(self.conditions(reply), []).append(Track(reply))
        return tracks


def _pool(
    conditions: Conditions,
    *,
    baseline: Mapping[Conditions, Sequence[Track]],
    null: Mapping[Conditions, Sequence[Track]],
) -> Pool:
    """The answers under some conditions.

    A null answer that is the only one of its kind is held against the baseline's of the other kind: computed
    where it was read from the cache, or the other way round.  With a single null answer only quiet recordings
    are judged, and in these the two kinds are the same but for the order of additions.
    """
    of_baseline, of_null = baseline.get(conditions, ()), null.get(conditions, ())
    if len(of_null) == 1 and not of_baseline:
        prompt, reference, method, concurrency, from_cache = conditions
        of_baseline = baseline.get((prompt, reference, method, concurrency, not from_cache), ())
    return Pool(baseline=tuple(of_baseline), null=tuple(of_null))


def resolution_of(pools: Iterable[Pool]) -> float:
    """The largest shift that rounding alone explains where the answers of ``pools`` were made, nat."""
    tracks = [track for pool in pools for track in (pool.baseline or pool.null)[:1]]
    found = [contrasts(track) for track in tracks]
    return limits.resolution(limits.rounding_step(np.concatenate(found)) if found else 0.0)
