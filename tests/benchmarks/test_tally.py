"""Rates are counted as the table says, with exact intervals, and nobody's lead is hidden."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.check.result import CellResult, Verdict
from tests.benchmarks.contest import OURS, Outcome, Ruling, Score
from tests.benchmarks.tally import Rate, Tally, standings, tally

outcomes = st.sampled_from(list(Outcome))


def ruled(outcome: Outcome, *, fault: str | None = None, needed: int | None = None) -> Score:
    """A recording on which ours says ``outcome``."""
    result = CellResult(cell="c", scenario="s", arm="a", verdict=Verdict.CLEAN, reason="because")
    ruling = Ruling(outcome=outcome, tokens=100, reason="because", tokens_needed=needed)
    return Score(
        engine="e", name="n", fault=fault, arm_args=(), concurrency=1, result=result, rulings={OURS: ruling}
    )


def fared(false_alarms: int, detections: int, needed: float | None = 100) -> Tally:
    """A comparator on 200 healthy and 16 faulty engines."""
    return Tally(
        false_alarms=Rate(count=false_alarms, total=200),
        detections=Rate(count=detections, total=16),
        inconclusive=0,
        tokens_needed=needed,
    )


def said(**tallies: Tally) -> list[str]:
    """What is said of the standings."""
    named: Mapping[str, Tally] = tallies
    return list(standings(named))


@given(healthy=st.lists(outcomes), faulty=st.lists(outcomes))
def test_every_recording_is_counted_once(healthy: list[Outcome], faulty: list[Outcome]) -> None:
    """Inconclusive ones leave the healthy, stay among the faulty, and are counted apart."""
    scores = [ruled(each) for each in healthy] + [ruled(each, fault="lose-weights") for each in faulty]
    told = tally(scores, OURS)

    assert told.false_alarms.count == healthy.count(Outcome.ALARM)
    assert told.false_alarms.total + healthy.count(Outcome.INCONCLUSIVE) == len(healthy)
    assert (told.detections.count, told.detections.total) == (faulty.count(Outcome.ALARM), len(faulty))
    assert told.inconclusive == (healthy + faulty).count(Outcome.INCONCLUSIVE)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_interval_holds_the_rate(count: int, more: int) -> None:
    """Whatever was counted lies within its own interval."""
    rate = Rate(count=count, total=count + more)
    low, high = rate.interval
    assert 0 <= low <= rate.value <= high <= 1


@pytest.mark.parametrize(
    ("rate", "interval"),
    [(Rate(count=0, total=200), (0.0, 0.01828)), (Rate(count=14, total=16), (0.6165, 0.9845))],
)
def test_the_interval_is_the_exact_one(rate: Rate, interval: tuple[float, float]) -> None:
    """Clopper and Pearson's, two-sided: for no event of n the upper end is 1 - 0.025 ** (1 / n)."""
    assert rate.interval == pytest.approx(interval, abs=1e-4)


def test_of_nothing_everything_is_possible() -> None:
    """Without recordings there is no rate to show."""
    nothing = Rate(count=0, total=0)
    assert nothing.interval == (0.0, 1.0)
    assert str(nothing) == "-"


def test_tokens_needed_are_the_median_over_detected_faults() -> None:
    """Faults that were missed have none."""
    needed = [ruled(Outcome.ALARM, fault="f", needed=each) for each in (32, 64, 512)]
    missed = ruled(Outcome.SILENCE, fault="f")
    assert tally([*needed, missed], OURS).tokens_needed == 64
    assert tally([missed], OURS).tokens_needed is None


def test_a_lead_of_another_is_said_plainly() -> None:
    """In every column, with the counts."""
    told = said(sleepwake=fared(1, 14, 1024), other=fared(0, 15, 64))
    assert told == [
        "other is ahead of sleepwake in false alarms: 0/200 against 1/200.",
        "other is ahead of sleepwake in detections: 15/16 against 14/16.",
        "other is ahead of sleepwake in tokens needed: 64 against 1,024.",
    ]


def test_a_draw_is_said_as_well() -> None:
    """Being equal is not being ahead."""
    told = said(sleepwake=fared(0, 14, 64), other=fared(0, 14, 64))
    assert told == [
        "other equals sleepwake in false alarms: 0/200 against 0/200.",
        "other equals sleepwake in detections: 14/16 against 14/16.",
        "other equals sleepwake in tokens needed: 64 against 64.",
    ]


def test_rates_are_compared_not_counts() -> None:
    """One of two is more than one of sixteen."""
    ours = Tally(
        false_alarms=Rate(count=1, total=2),
        detections=Rate(count=16, total=16),
        inconclusive=198,
        tokens_needed=10,
    )
    assert said(sleepwake=ours, other=fared(1, 15)) == [
        "other is ahead of sleepwake in false alarms: 1/200 against 1/2."
    ]


def test_a_lead_by_crying_wolf_is_said_with_its_price() -> None:
    """Who alarms on every engine detects every fault at once."""
    told = said(sleepwake=fared(0, 15, 1024), other=fared(200, 16, 4))
    price = "(with 200/200 false alarms against 0/200)"
    assert told == [
        f"other is ahead of sleepwake in detections: 16/16 against 15/16 {price}.",
        f"other is ahead of sleepwake in tokens needed: 4 against 1,024 {price}.",
    ]


def test_a_lead_in_every_column_is_said_once() -> None:
    """A comparator that detects nothing needs no tokens and is ahead in none."""
    told = said(sleepwake=fared(0, 16), other=fared(200, 15, 101), silent=fared(3, 0, None))
    assert told == ["sleepwake is ahead of every other in false alarms and detections."]


def test_only_what_was_recorded_is_compared() -> None:
    """Healthy engines alone say nothing about detections, and nothing at all says nothing."""
    healthy = tally([ruled(Outcome.SILENCE)], OURS)
    others = tally([ruled(Outcome.ALARM)], OURS)
    assert said(sleepwake=healthy, other=others) == ["sleepwake is ahead of every other in false alarms."]
    assert said(sleepwake=tally([], OURS), other=tally([], OURS)) == []
