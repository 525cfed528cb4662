"""Which release to try next, and what the trials so far say: pure decisions over a list of releases.

The list runs from the older to the newer end.  One end is known to be good, the other bad;
somewhere between them it changes, and the two *deciding neighbours* are the last release of
the older kind and the first of the newer one.  Each of the two must be seen twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.report.tables import Row, Table

Outcome = Literal["good", "bad", "skip"]
CONFIRMATIONS = 2

_TONES: dict[Outcome, str] = {"good": "better", "bad": "worse", "skip": "damaged"}


class Trial(BaseModel):
    """One run of the scenario on one release.  ``skip``: it could not be tried, or did not decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    outcome: Outcome
    reason: str
    run: str


class Bisection(BaseModel):
    """A search and what it has seen so far; ``older`` says what the first release of the list is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    versions: tuple[str, ...]
    older: Literal["good", "bad"]
    trials: tuple[Trial, ...] = ()

    def seen(self, trial: Trial) -> Bisection:
        """The search with one more trial."""
        return self.model_copy(update={"trials": (*self.trials, trial)})

    def outcomes(self, version: str) -> list[Outcome]:
        """What the trials of ``version`` showed, in order."""
        return [trial.outcome for trial in self.trials if trial.version == version]

    @property
    def neighbours(self) -> tuple[str, str]:
        """The newest release seen to be like the older end, and the oldest seen to be like the newer one.

        Releases that were skipped may lie between them.
        """
        kinds = [self._kind(version) for version in self.versions]
        last = max(i for i, kind in enumerate(kinds) if kind == self.older)
        first = min(i for i, kind in enumerate(kinds) if kind == self._newer)
        return self.versions[last], self.versions[first]

    @property
    def contradiction(self) -> str | None:
        """In words, what makes a change at one release impossible; None when all trials fit."""
        for version in self.versions:
            kinds = {outcome for outcome in self.outcomes(version) if outcome != "skip"}
            if len(kinds) > 1:
                return f"{version} was good once and bad once: the scenario does not decide it reliably"
            if version in self._ends and kinds and kinds != {self._expected(version)}:
                return f"{version} was given as {self._expected(version)} and is {kinds.pop()}"
        last, first = self.neighbours
        if self.versions.index(last) > self.versions.index(first):
            return f"{first} is {self._newer}, the newer {last} is {self.older}: it changes more than once"
        return None

    def next_version(self) -> str | None:
        """The release to try next; None when the search is over."""
        if self.contradiction:
            return None
        untried = self._untried_between()
        if untried:
            return untried[len(untried) // 2]
        return next((version for version in self.neighbours if self._unconfirmed(version)), None)

    def _untried_between(self) -> Sequence[str]:
        last, first = map(self.versions.index, self.neighbours)
        return [version for version in self.versions[last + 1 : first] if not self.outcomes(version)]

    def _unconfirmed(self, version: str) -> bool:
        """Whether a deciding neighbour was not yet seen often enough; one that cannot be tried is left."""
        outcomes = self.outcomes(version)
        return "skip" not in outcomes and len(outcomes) < CONFIRMATIONS

    @property
    def skipped(self) -> tuple[str, ...]:
        """Releases between the deciding neighbours that could not be tried."""
        last, first = map(self.versions.index, self.neighbours)
        return self.versions[last + 1 : first]

    def _kind(self, version: str) -> Outcome | None:
        seen = next((outcome for outcome in self.outcomes(version) if outcome != "skip"), None)
        return seen or (self._expected(version) if version in self._ends else None)

    @property
    def _ends(self) -> tuple[str, str]:
        return self.versions[0], self.versions[-1]

    def _expected(self, end: str) -> Outcome:
        return self.older if end == self.versions[0] else self._newer

    @property
    def _newer(self) -> Outcome:
        return "bad" if self.older == "good" else "good"


def table(search: Bisection) -> Table:
    """What was tried, a row each, in order."""
    return Table(
        headings=("release", "outcome", "because", "run"),
        rows=tuple(
            Row(fields=(each.version, each.outcome, each.reason, each.run), tone=_TONES[each.outcome])
            for each in search.trials
        ),
    )


def conclusion(search: Bisection) -> str:
    """What a finished search found, in one sentence."""
    if search.contradiction:
        return search.contradiction
    last, first = search.neighbours
    kind = "good" if search.older == "bad" else "bad"
    between = f"; {', '.join(search.skipped)} between them could not be tried" if search.skipped else ""
    return f"first {kind} release: {first} (the last {search.older} one is {last}{between})"
