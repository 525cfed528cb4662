"""Draws sequences, and makes the first that fails in a new way as short as it can.

Hypothesis draws numbers, each of which stands for a list of moves, and keeps those whose list failed.  It
does not draw the lists: it would make most of them from pieces of earlier ones.  Nor does it shrink them: its
shrinker is made for tests that cost milliseconds, tries plainer values for every element, and goes on
drawing for as long as it took to find the first failure.  Here a sequence costs seconds, a death most of a
minute: leaving moves out, whole stretches first, takes a dozen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import mean

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from harness.explore.fuzz.engine import Carried
from harness.explore.fuzz.findings import Failure, KnownFindings, Signature, failure_in
from harness.explore.fuzz.moves import OVERLAPPING, Move, topic_of
from harness.explore.fuzz.sequences import carried_out
from harness.scenario.script import Step

MOST_STEPS = 12
"""Of a list, about; what is not legal where it comes is left out, so that most scripts have fewer calls."""
MOST_TOPICS = 3
"""That one list is about: drawn from all moves alike, those that belong together hardly ever meet.

Swarm testing: Groce et al., ISSTA 2012.
"""
QUESTION_WEIGHT = 3
"""How often a probe is drawn beside each call: what is asked between two calls fills the caches."""
OVERLAPPING_SHARE = 0.6
"""Of the lists, where calls may overlap at all."""
_WEIGHTS = {None: QUESTION_WEIGHT, OVERLAPPING: 3}
"""How often a move is drawn beside each call, by what it is about."""
SHRINKING_SHARE = 0.25
"""Of the whole budget, for one finding."""
LEAST_SHRINKING_S = 120.0
KNOWN_TRIED = 4
"""One in so many sequences that make the calls of a known finding is tried: few of them tell anything new."""
SEQUENCES_A_SETTING = 25
"""Drawn, until the next way to start an engine is tried."""
_DRAWN_AT_A_TIME = 100_000
"""Lists that one search may draw; the budget ends it long before."""

Steps = tuple[Step, ...]


class SequenceFailedError(Exception):
    """Tells Hypothesis that a sequence failed in a way that is not known."""


class _SpentError(BaseException):
    """Ends a search from within: Hypothesis lets pass what is no Exception."""


@dataclass(kw_only=True)
class Budget:
    """How long a search may go on, and how many sequences it may carry out; None: without limit."""

    seconds: float | None
    sequences: int | None
    clock: Callable[[], float] = time.monotonic
    carried_out: int = 0
    paused_s: float = 0.0

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def seconds_left(self) -> float:
        """Infinite where there is no limit."""
        if self.seconds is None:
            return float("inf")
        return self.seconds - (self.clock() - self._began - self.paused_s)

    @property
    def spent(self) -> bool:
        """Whether no further sequence may be begun."""
        return self.seconds_left <= 0 or (self.sequences is not None and self.carried_out >= self.sequences)

    @property
    def for_shrinking_s(self) -> float:
        """How long one failure may be shrunk."""
        return (
            float("inf") if self.seconds is None else max(self.seconds * SHRINKING_SHARE, LEAST_SHRINKING_S)
        )


@dataclass(frozen=True, kw_only=True)
class Minimal:
    """The shortest sequence found that fails in one way."""

    failure: Failure
    carried: Carried
    drawn: Steps
    """The one it was shrunk from."""
    setting: int
    """How the engine was started on which it failed; the first, where it fails there as well."""

    @property
    def steps(self) -> Steps:
        """What was carried out of it."""
        return self.carried.steps


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One sequence that was carried out, as whoever watches is told of it."""

    carried: Carried
    failure: Failure | None
    known: Signature | None
    shrinking: bool
    setting: int


@dataclass(kw_only=True)
class Search:
    """Looks for failures that are not known yet until the budget is spent.

    ``try_sequence`` carries a sequence out and judges it.  The same ``seed``, ``database`` and outcomes
    give the same search.
    """

    try_sequence: Callable[[Steps, int], Carried]
    """Is told the number of a setting, too."""
    moves: tuple[Move, ...]
    known: KnownFindings
    budget: Budget
    seed: int
    database: Path
    watch: Callable[[Tried], None]
    settings: int = 1
    _tried: dict[tuple[int, Steps], Tried] = field(default_factory=dict, init=False)
    _drawn: int = field(default=0, init=False)
    """New sequences so far, those left out that were tried while shrinking."""
    _with_known: int = field(default=0, init=False)

    @property
    def setting(self) -> int:
        """The number of the setting that is tried now; it does not change while shrinking."""
        return max(self._drawn - 1, 0) // SEQUENCES_A_SETTING % self.settings

    def new_failures(self) -> Iterator[Minimal]:
        """Yield each, shrunk; one that is yielded should be known before the next is asked for."""
        number = 0
        while not self.budget.spent:
            for moves, failure in self._draw_failing(self.seed + number):
                minimal = self._shrunk(moves, failure)
                if self._is_steady(minimal) and not self.known.explaining(failure, minimal.steps):
                    yield minimal
            number += 1

    def _draw_failing(self, number: int) -> list[tuple[list[Move], Failure]]:
        """Draw lists of moves until one fails in a way that is not known; none where the budget is spent."""
        failing: list[tuple[list[Move], Failure]] = []

        @seed(number)
        @settings(
            max_examples=_DRAWN_AT_A_TIME,
            database=DirectoryBasedExampleDatabase(self.database),
            deadline=None,
            derandomize=False,
            phases=(Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(st.integers(0, 2**64 - 1))
        def holds(drawn: int) -> None:
            moves = self._moves_of(drawn)
            if failure := self._new_failure_of(carried_out(moves)):
                failing[:] = [(moves, failure)]
                raise SequenceFailedError

        with suppress(SequenceFailedError, _SpentError):
            holds()
        return failing

    def _moves_of(self, number: int) -> list[Move]:
        chance = Random(number)  # noqa: S311 - nothing is kept secret with it
        told = {topic for move in self.moves if (topic := topic_of(move))}
        topics = sorted(told - {OVERLAPPING})
        chosen = {None, *chance.sample(topics, k=chance.randint(1, min(MOST_TOPICS, len(topics))))}
        if OVERLAPPING in told and chance.random() < OVERLAPPING_SHARE:
            chosen.add(OVERLAPPING)
        moves = [move for move in self.moves if topic_of(move) in chosen]
        most = max(1, round(MOST_STEPS / mean(map(len, moves))))
        weights = [_WEIGHTS.get(topic_of(move), 1) for move in moves]
        return chance.choices(moves, weights=weights, k=chance.randint(1, most))

    def _new_failure_of(self, steps: Steps) -> Failure | None:
        """How a sequence fails; None where it holds, or fails as is known."""
        if not steps:
            return None
        if (self.setting, steps) not in self._tried:
            if self._is_passed_over(steps):
                return None
            if self.budget.spent:
                raise _SpentError
            self._drawn += 1
        failure = self._try(steps).failure
        return failure if failure and not self.known.explaining(failure, steps) else None

    def _is_passed_over(self, steps: Steps) -> bool:
        """Whether trying a sequence would most likely cost time, or an engine, to see what is known."""
        if not self.known.is_in(steps):
            return False
        self._with_known += 1
        return self.known.would_cost_an_engine(steps) or self._with_known % KNOWN_TRIED != 1

    def _shrunk(self, moves: list[Move], failure: Failure) -> Minimal:
        """Leave moves out, whole stretches first, as long as what is left fails in the same way."""
        drawn = self._try(carried_out(moves)).carried
        until = self.budget.clock() + self.budget.for_shrinking_s
        size = len(moves) // 2
        while size:
            candidates = _without_a_stretch(moves, size)
            shorter = next((each for each in candidates if self._fails_as(failure, each, until)), None)
            if shorter is None:
                size //= 2
            else:
                moves = shorter
        shortest = self._try(carried_out(moves)).carried
        setting = self._plainest_setting(failure, shortest.steps)
        carried = self._try(shortest.steps, setting=setting).carried
        return Minimal(failure=failure, carried=carried, drawn=drawn.steps, setting=setting)

    def _plainest_setting(self, failure: Failure, steps: Steps) -> int:
        """The first setting where these steps fail in this way there, else the one they failed in."""
        tried = self._try(steps, setting=0, shrinking=True)
        return 0 if tried.failure == failure else self.setting

    def _is_steady(self, minimal: Minimal) -> bool:
        """Whether it fails a second time; a shorter one that failed has shown it."""
        if minimal.steps != minimal.drawn:
            return True
        if minimal.setting != self.setting:
            return True  # it failed in both
        del self._tried[self.setting, minimal.steps]
        return self._try(minimal.steps, shrinking=True).failure == minimal.failure

    def _fails_as(self, failure: Failure, moves: list[Move], until: float) -> bool:
        """Whether these moves fail in this way; once time is up, what was not tried counts as if it held."""
        steps = carried_out(moves)
        if not steps or ((self.setting, steps) not in self._tried and self.budget.clock() > until):
            return False
        return self._try(steps, shrinking=True).failure == failure

    def _try(self, steps: Steps, *, setting: int | None = None, shrinking: bool = False) -> Tried:
        """Carry a sequence out, unless that was done already: then its outcome is remembered."""
        setting = self.setting if setting is None else setting
        if (setting, steps) not in self._tried:
            carried = self.try_sequence(steps, setting)
            self.budget.carried_out += 1
            failure = failure_in(carried.result)
            known = self.known.explaining(failure, carried.steps) if failure else None
            tried = Tried(carried=carried, failure=failure, known=known, shrinking=shrinking, setting=setting)
            self._tried[setting, steps] = self._tried[setting, carried.steps] = tried
            self.watch(tried)
        return self._tried[setting, steps]


def _without_a_stretch(moves: list[Move], size: int) -> Iterator[list[Move]]:
    """The list without one stretch of this length: the last one first, for what fails ends there."""
    for end in range(len(moves), 0, -size):
        yield [*moves[: max(end - size, 0)], *moves[end:]]
