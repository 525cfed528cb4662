"""Counting rulings: rates with exact intervals, and who is ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from scipy.stats import binomtest  # type: ignore[import-untyped]  # SciPy ships no types

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
        low, high = binomtest(self.count, self.total).proportion_ci(confidence_level=0.95, method="exact")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count}/{self.total} ({low:.1%} to {high:.1%})" if self.total else "-"


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
    if not ours.false_alarms.total or not ours.detections.total:
        yield f"{OURS} ruled on no healthy engine, or no faulty one was recorded: there is no comparison."
        return
    behind = [
        sentence
        for who, theirs in tallies.items()
        if who != OURS
        for sentence in (
            _of_rates(who, "false alarms", theirs.false_alarms, ours.false_alarms, fewer_is_better=True),
            _of_rates(who, "detections", theirs.detections, ours.detections, fewer_is_better=False),
            _of_tokens(who, theirs.tokens_needed, ours.tokens_needed),
        )
        if sentence
    ]
    yield from behind or [f"{OURS} is ahead of every other in every column."]


def _of_rates(who: str, column: str, theirs: Rate, ours: Rate, *, fewer_is_better: bool) -> str | None:
    lead = (ours.value - theirs.value) * (1 if fewer_is_better else -1)
    counts = f"{theirs.count}/{theirs.total} against {ours.count}/{ours.total}"
    if lead > 0:
        return f"{who} is ahead of {OURS} in {column}: {counts}."
    return f"{who} equals {OURS} in {column}: {counts}." if lead == 0 else None


def _of_tokens(who: str, theirs: float | None, ours: float | None) -> str | None:
    if theirs is None or ours is None or theirs > ours:
        return None
    relation = f"is ahead of {OURS}" if theirs < ours else f"equals {OURS}"
    return f"{who} {relation} in tokens needed: {theirs:,.0f} against {ours:,.0f}."
