"""Draws sequences, and makes the first that fails in a new way as short as it can.

Hypothesis draws and shrinks.  Its shrinker is made for tests that cost milliseconds, and here one
costs seconds; it is used all the same, because three things keep it cheap: sequences are lists, from
which it takes whole pieces out first; most lists it tries stand for a script that was carried out
already, whose outcome is remembered; and it has a share of the budget, after which every candidate
that was not tried yet counts as passing, so that it ends at once with the shortest failure so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from harness.explore.fuzz_engine import Carried
from harness.explore.fuzz_findings import Failure, KnownFindings, Signature, failure_in
from harness.explore.fuzz_sequences import Move, carried_out
from harness.scenario.schema import Step

MOST_MOVES = 12
"""Of a list; what is not legal where it comes is left out, so that most scripts have fewer calls."""
SHRINKING_SHARE = 0.25
"""Of the whole budget, for one finding."""
LEAST_SHRINKING_S = 120.0
_DRAWN_AT_A_TIME = 100_000
"""Lists that one search may draw; the budget ends it long before."""

Steps = tuple[Step, ...]


class SequenceFailedError(Exception):
    """Tells Hypothesis that a sequence failed in the way that is being looked at."""


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

    steps: Steps
    failure: Failure
    carried: Carried
    drawn: Steps
    """The one it was shrunk from."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One sequence that was carried out, as whoever watches is told of it."""

    carried: Carried
    failure: Failure | None
    known: Signature | None
    shrinking: bool


@dataclass(kw_only=True)
class Search:
    """Looks for failures that are not known yet until the budget is spent.

    ``carry_out`` carries a sequence out and judges it.  The same ``seed``, ``database`` and outcomes
    give the same search.
    """

    carry_out: Callable[[Steps], Carried]
    moves: tuple[Move, ...]
    known: KnownFindings
    budget: Budget
    seed: int
    database: Path
    watch: Callable[[Tried], None]
    _outcomes: dict[Steps, Failure | None] = field(default_factory=dict, init=False)
    _best: Minimal | None = field(default=None, init=False)
    _shrink_until: float = field(default=0.0, init=False)

    def new_failures(self) -> Iterator[Minimal]:
        """Yield each, shrunk; one that is yielded should be known before the next is asked for."""
        number = 0
        while not self.budget.spent:
            found = self._search(self.seed + number)
            number += 1
            if found is not None:
                yield found

    def _search(self, number: int) -> Minimal | None:
        self._best = None
        drawn_lists = st.lists(st.sampled_from(self.moves), min_size=1, max_size=MOST_MOVES)

        @seed(number)
        @settings(
            max_examples=_DRAWN_AT_A_TIME,
            database=DirectoryBasedExampleDatabase(self.database),
            deadline=None,
            derandomize=False,
            phases=(Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(drawn_lists)
        def holds(moves: list[Move]) -> None:
            self._require_it_holds(carried_out(moves))

        with suppress(SequenceFailedError, _SpentError):
            holds()
        return self._best

    def _require_it_holds(self, steps: Steps) -> None:
        if not steps or (self._best and steps not in self._outcomes and self._may_not_shrink()):
            return
        failure = self._outcome(steps)
        if failure is None or self.known.explaining(failure, steps):
            return
        if self._best is None or failure == self._best.failure:
            raise SequenceFailedError

    def _may_not_shrink(self) -> bool:
        return self.budget.clock() > self._shrink_until

    def _outcome(self, steps: Steps) -> Failure | None:
        """How a sequence fails, from memory where it was carried out before."""
        if steps not in self._outcomes:
            if self.budget.spent and self._best is None:
                raise _SpentError
            carried = self.carry_out(steps)
            self.budget.carried_out += 1
            failure = failure_in(carried.result)
            self._outcomes[steps] = self._outcomes[carried.steps] = failure
            known = self.known.explaining(failure, carried.steps) if failure else None
            self.watch(Tried(carried=carried, failure=failure, known=known, shrinking=self._best is not None))
            if failure and not known:
                self._note(carried, failure)
        return self._outcomes[steps]

    def _note(self, carried: Carried, failure: Failure) -> None:
        """Keep the shortest sequence that fails in the way that is being looked at."""
        if self._best is None:
            self._shrink_until = self.budget.clock() + self.budget.for_shrinking_s
            self._best = Minimal(steps=carried.steps, failure=failure, carried=carried, drawn=carried.steps)
        elif failure == self._best.failure and len(carried.steps) <= len(self._best.steps):
            self._best = Minimal(
                steps=carried.steps, failure=failure, carried=carried, drawn=self._best.drawn
            )
