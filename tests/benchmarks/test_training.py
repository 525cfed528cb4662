"""The guarded training loop's own arithmetic; the loop itself takes a real engine."""

from __future__ import annotations

from tests.benchmarks.training import MISTAKES, Loop, Step, summary


def step(
    number: int, *, full: bool, check: float, planted: str | None = None, verdict: str = "clean"
) -> Step:
    """One that cost ten seconds without its guard."""
    seconds = {"generate": 6.0, "learn": 4.0, "expect": check / 2, "check": check / 2}
    return Step(number=number, planted=planted, verdict=verdict, full=full, seconds=seconds, mib=100.0)


def test_every_mistake_is_planted_once_and_never_two_in_a_row() -> None:
    """At steps that the seed chooses, and never at the first."""
    for seed in range(50):
        planted = Loop(steps=12, seed=seed).planted
        assert sorted(planted.values()) == sorted(MISTAKES)
        assert 1 not in planted
        assert all(number + 1 not in planted for number in planted)
    assert Loop(mistakes=False).planted == {}


def test_the_overhead_is_that_of_sound_steps() -> None:
    """Full and short checks apart, and together; a step that is accused wrongly is a false alarm."""
    steps = [
        step(1, full=True, check=1.0),
        step(2, full=False, check=0.2),
        step(3, full=False, check=9.0, planted=MISTAKES[0], verdict="corrupt"),
        step(4, full=False, check=0.3, verdict="inconclusive"),
    ]
    said = summary(steps)
    assert (said["false alarms"], said["noticed"]) == (1, 1)
    assert said["seconds of its guard"] == {"full": 1.0, "short": 0.25}
    assert abs(said["overhead"] - 1.5 / 30) < 1e-9
