"""Everybody gets the same imagined engines, and the page says who saw what."""

from __future__ import annotations

from tests.benchmarks.contest import OURS
from tests.benchmarks.equality_tests import EQUALITY_TESTS, Measured
from tests.benchmarks.noise_models import DAMAGE
from tests.benchmarks.same_model import NOISE, Trial, table, tried


def trial(damage: str | None, *, score: float, ours: int | None = None, p_value: float = 1.0) -> Trial:
    """A trial of which all tests say the same."""
    said = Measured(p_value=p_value, score=score, tokens=7)
    return Trial(noise=NOISE[0], damage=damage, measured=dict.fromkeys(EQUALITY_TESTS, said), ours=ours)


def told(*more: Trial) -> str:
    """The page of one healthy engine of every model of noise, and of some more."""
    healthy = [
        Trial(
            noise=noise,
            damage=None,
            measured=dict.fromkeys(EQUALITY_TESTS, Measured(p_value=0.5, score=1.0, tokens=7)),
            ours=None,
        )
        for noise in NOISE
    ]
    return table([*healthy, *more])


def test_a_threshold_is_the_largest_score_of_healthy_engines() -> None:
    """What lies beyond it is detected, what does not is not."""
    damage = next(iter(DAMAGE))
    page = told(trial(damage, score=1.0), trial(damage, score=1.1, ours=96))
    assert f"| {damage} | 1/2 | 1/2 | 1/2 | 1/2 | 1/2 |" in page
    assert f"| {OURS} | 0/5 (0.0% to 52.2%) | 1/2 (1.3% to 98.7%) | 96 |" in page
    assert "| MMD, Hamming kernel | 0/5 (0.0% to 52.2%) | 1/2 (1.3% to 98.7%) | 7 |" in page


def test_false_alarms_are_those_at_the_published_rate() -> None:
    """However large the score of a healthy engine is."""
    page = told(trial(None, score=0.5, p_value=1e-3))
    assert "| border inputs (B3IT) | 1/6 " in page
    assert f"| {OURS} | 0/6 " in page


def test_ours_is_asked_how_few_tokens_would_do() -> None:
    """Other weights show in the first token of every answer; a healthy engine shows in none."""
    damaged = tried(1, NOISE[-1], "lost weights")
    assert damaged.ours == 40
    assert damaged.measured["log-probability tracking"].tokens == 40
    assert tried(2, NOISE[-1], None).ours is None
