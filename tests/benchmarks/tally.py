"""Counting rulings: rates with exact intervals, and who is ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

import scipy  # type: ignore[import-untyped]  # SciPy ships no types; what is used of it is loaded then

from tests.benchmarks.contest import OURS, Outcome, Score


@dataclass(frozen=True, kw_only=True)
class Rate:
    """``count`` of ``total``."""

    count: int
    total: int

    @property
    def value(self) -> Fraction:
        """The rate; 0 of nothing."""
        return Fraction(self.count, max(self.total, 1))

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's exact interval at 95%; everything is possible of nothing."""
        if not self.total:
            return 0.0, 1.0
        missed, quantile = self.total - self.count, scipy.special.betaincinv
        low = quantile(self.count, missed + 1, 0.025) if self.count else 0.0
        high = quantile(self.count + 1, missed, 0.975) if missed else 1.0
        return float(low), float(high)

    @property
    def counts(self) -> str:
        """The rate as it was counted."""
        return f"{self.count}/{self.total}"

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.counts} ({low:.1%} to {high:.1%})" if self.total else "-"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How one comparator fared on all recordings of one engine setting.

    ``false_alarms`` counts among the healthy engines it ruled on, ``detections`` among all the
    faulty ones: where it says it cannot tell, it has neither cried wolf nor caught one.
    """

    false_alarms: Rate
    detections: Rate
    inconclusive: int
    tokens_needed: float | None
    """Median over the detected faults; None where there are none."""


def tally(scores: Sequence[Score], who: str) -> Tally:
    """Count what ``who`` said of ``scores``."""
    healthy = [each.rulings[who] for each in scores if each.fault is None]
    faulty = [each.rulings[who] for each in scores if each.fault is not None]
    ruled = [ruling for ruling in healthy if ruling.outcome is not Outcome.INCONCLUSIVE]
    needed = [ruling.tokens_needed for ruling in faulty if ruling.tokens_needed is not None]
    return Tally(
        false_alarms=Rate(count=sum(ruling.outcome is Outcome.ALARM for ruling in ruled), total=len(ruled)),
        detections=Rate(count=sum(ruling.outcome is Outcome.ALARM for ruling in faulty), total=len(faulty)),
        inconclusive=sum(ruling.outcome is Outcome.INCONCLUSIVE for ruling in (*healthy, *faulty)),
        tokens_needed=median(needed) if needed else None,
    )


def standings(tallies: Mapping[str, Tally]) -> Iterator[str]:
    """Yield a sentence for every column in which ours is not ahead of another; one that says so if it is."""
    ours = tallies[OURS]
    behind = [
        f"{who} {sentence}{_at_what_price(theirs, ours)}."
        for who, theirs in tallies.items()
        if who != OURS
        for sentence in _leads(theirs, ours)
    ]
    compared = {"false alarms": ours.false_alarms.total, "detections": ours.detections.total}
    columns = " and ".join(column for column, total in compared.items() if total)
    yield from behind or ([f"{OURS} is ahead of every other in {columns}."] if columns else [])


def _leads(theirs: Tally, ours: Tally) -> Iterator[str]:
    """Yield the columns in which another is ahead, or equal."""
    yield from _of_rates("false alarms", theirs.false_alarms, ours.false_alarms, fewer_is_better=True)
    yield from _of_rates("detections", theirs.detections, ours.detections, fewer_is_better=False)
    if theirs.tokens_needed is not None and ours.tokens_needed is not None:
        lead = ours.tokens_needed - theirs.tokens_needed
        yield from _lead("tokens needed", lead, f"{theirs.tokens_needed:,.0f}", f"{ours.tokens_needed:,.0f}")


def _of_rates(column: str, theirs: Rate, ours: Rate, *, fewer_is_better: bool) -> Iterator[str]:
    lead = (ours.value - theirs.value) * (1 if fewer_is_better else -1)
    if theirs.total and ours.total:
        yield from _lead(column, lead, theirs.counts, ours.counts)


def _lead(column: str, lead: float | Fraction, theirs: str, ours: str) -> Iterator[str]:
    if lead >= 0:
        relation = "is ahead of" if lead > 0 else "equals"
        yield f"{relation} {OURS} in {column}: {theirs} against {ours}"


def _at_what_price(theirs: Tally, ours: Tally) -> str:
    """Who alarms on healthy engines detects faults by chance, and soon."""
    if theirs.false_alarms.value <= ours.false_alarms.value:
        return ""
    return f" (with {theirs.false_alarms.counts} false alarms against {ours.false_alarms.counts})"
