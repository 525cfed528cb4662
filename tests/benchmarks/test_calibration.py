"""The page on the error rate says what was counted, and imagined engines are what they are called."""

from __future__ import annotations

import pytest

from harness.check import judge
from harness.check.evidence import Evidence
from harness.check.result import Verdict
from tests.benchmarks.calibration import ALL_NOISE, HEALTHY_EACH, Outcome, Trial, judged, page, trials
from tests.benchmarks.imagined_engine import history
from tests.benchmarks.noise_models import DAMAGE, FINE, ROUNDED


def test_the_same_seed_gives_the_same_history() -> None:
    """So that every row of the page can be made again."""
    noise = ROUNDED["independent"]
    assert history(3, noise).passes == history(3, noise).passes
    assert history(3, noise).passes != history(4, noise).passes


@pytest.mark.parametrize("name", ALL_NOISE)
def test_noise_is_there_where_it_is_said_to_be(name: str) -> None:
    """An engine that rounds as bfloat16 does disagrees with itself, one in float32 does not."""
    floor = Evidence(history(0, ALL_NOISE[name], rounded=name in ROUNDED)).floor
    assert floor is not None
    assert (floor.reworded > 0) is (name not in FINE)


@pytest.mark.parametrize("damage", ["lost weights", "stale cache, half of the prompts"])
def test_great_damage_is_found(damage: str) -> None:
    """Without noise, nothing of it could be missed."""
    [without, *_] = FINE
    assert judge(history(1, FINE[without], DAMAGE[damage], rounded=False)).verdict is Verdict.CORRUPT


def test_a_damaged_engine_is_judged_twice() -> None:
    """As a run by itself, and with a part of the rate of a larger one."""
    outcome = judged(Trial(noise="independent", seed=1, damage="lost weights"))
    assert (outcome.alone, outcome.among_many) == (Verdict.CORRUPT, Verdict.CORRUPT)
    assert judged(Trial(noise="independent", seed=1)).among_many is None


def test_as_many_are_made_up_as_the_page_promises() -> None:
    """Two thousand of each kind, no seed twice."""
    every = list(trials(healthy=HEALTHY_EACH, damaged=23))
    assert len({trial.seed for trial in every}) == len(every)
    assert min(sum((t.damage is None) is healthy for t in every) for healthy in (True, False)) >= 2000


def told(*, alarms: int) -> str:
    """The page where so many of 200 healthy engines with independent noise were called corrupt."""
    return page(
        [
            Outcome(
                trial=Trial(noise=noise, seed=seed),
                alone=Verdict.CORRUPT if noise == "independent" and seed < alarms else Verdict.CLEAN,
            )
            for noise in ALL_NOISE
            for seed in range(200)
        ]
    )


@pytest.mark.parametrize(
    ("alarms", "said"),
    [
        (2, "The count is within the stated rate for every model of noise."),
        (4, "No model of noise contradicts the stated rate; counted above it: independent (4/200"),
        (20, "The stated rate does **not** hold with this noise: independent (20/200"),
    ],
)
def test_the_page_says_whether_the_rate_holds(alarms: int, said: str) -> None:
    """And where it does not, by the exact interval."""
    shown = told(alarms=alarms)
    assert said in shown
    assert f"| independent | {alarms}/200" in shown
