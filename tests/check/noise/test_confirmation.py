"""How many passes must be odd, and by how much, before noise of whole passes does not explain it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from harness.check.noise.confirmation import Alarm, by_chance, doubts, null_passes_of, proven, significant
from harness.check.noise.pass_tests import PassTest
from harness.history.passes import CacheCondition, PassStarted, Role
from tests.check.stories import Story, calibration_of

ALPHA = 5e-3


def asked(effect: float, number: int, *, p_value: float = 1e-9, moves: bool = True) -> PassTest:
    """One question about one judged pass."""
    start = PassStarted(
        t=float(number),
        number=number,
        step="s",
        probe="p",
        role=Role.AFTER,
        cache=CacheCondition.WARM,
        concurrency=8,
        cycle=1,
    )
    return PassTest(
        name="dense",
        checker="divergence",
        start=start,
        p_value=p_value,
        sentence="answers deviate",
        effect=effect,
        moves_with_a_pass=moves,
    )


def questions(effects: Sequence[float]) -> list[PassTest]:
    """The same question about as many passes."""
    return [asked(effect, number) for number, effect in enumerate(effects)]


def alarms_of(effects: Sequence[float], *, null_passes: int) -> int:
    """How many of the passes are proven to be damaged."""
    tests = questions(effects)
    found = significant(tests, alpha=ALPHA)
    return len(proven(found, tests=tests, null_passes=null_passes, alpha=ALPHA))


@pytest.mark.parametrize(
    ("effects", "null_passes", "alarms"),
    [
        ([3.0, 3.0, 3.0, 3.0], 8, 4),
        ([3.0, 3.0, 1.0, 1.0], 8, 0),  # two noisy passes among four may happen by themselves
        ([3.0, 3.0, 1.0, 1.0], 40, 2),  # but not where forty null passes showed none
        ([3.0, 3.0], 4, 0),
        ([3.0, 3.0], 12, 2),
        ([1.9, 1.9, 1.9, 1.9], 40, 0),  # half as noisy again, and more, proves nothing
        ([4.1, 4.1, 1.0, 1.0], 4, 2),  # so far off that two suffice
        ([4.1, 1.0, 1.0, 1.0], 4, 0),
        ([4.1], 4, 1),
        ([3.9], 4, 0),
    ],
)
def test_passes_are_what_counts(effects: Sequence[float], null_passes: int, alarms: int) -> None:
    """However sure the prompts of a pass are, its answers may have moved together."""
    assert alarms_of(effects, null_passes=null_passes) == alarms


def test_what_no_whole_pass_moves_needs_no_other() -> None:
    """Prompts that lie further off than the rest of their own pass."""
    tests = [asked(np.inf, 0, moves=False), *questions([1.0, 1.0])]
    assert len(proven(significant(tests, alpha=ALPHA), tests=tests, null_passes=4, alpha=ALPHA)) == 1


def test_chance_is_that_of_the_worst_rate() -> None:
    """No rate at which passes are odd makes it likelier."""
    worst = by_chance(null=8, judged=4, odd=3)
    for rate in (0.05, 0.1, 0.2, 0.27, 0.5):
        at_rate = (1 - rate) ** 8 * (4 * rate**3 * (1 - rate) + rate**4)
        assert at_rate <= worst * 1.0001
    assert by_chance(null=0, judged=3, odd=3) == 1.0
    assert by_chance(null=4, judged=1, odd=1) == pytest.approx(0.8**4 * 0.2, rel=1e-3)


def test_a_seldom_odd_pass_is_not_believed_more_often_than_stated() -> None:
    """Counted: passes that are odd at some rate, before and after alike."""
    random = np.random.default_rng(7)
    for rate in (0.1, 0.25):
        odd = random.random((20_000, 12)) < rate
        unseen = [not before.any() for before in odd[:, :8]]
        proofs = {m: by_chance(null=8, judged=4, odd=m) <= ALPHA for m in range(5)}
        alarmed = [proofs[int(m)] and clear for m, clear in zip(odd[:, 8:].sum(axis=1), unseen, strict=True)]
        assert np.mean(alarmed) <= ALPHA


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        ([1.5, 1.5, 1.0, 1.0], "in 2 of 4 passes answers deviate together, up to 1.5 times as far"),
        ([3.0, 3.0, 0.1, 0.1], "in 2 of 4 passes answers deviate together, up to 3 times as far"),
        ([0.8, 0.8, 0.8, 0.1], "in 3 of 4 passes answers deviate together, more than chance explains but no"),
        ([0.8, 0.8, 0.1, 0.1], None),
        ([3.0, 0.1, 0.1, 0.1], None),
        ([3.0], "in 1 of 1 passes answers deviate together, up to 3 times as far"),
    ],
)
def test_what_is_not_proven_is_doubted(effects: Sequence[float], said: str | None) -> None:
    """From two passes on that lie further off than they should, or half of them that lie off at all."""
    found = [Alarm(test=test, adjusted=1e-6) for test in questions(effects)]
    doubt = doubts(found, passes=len(effects))
    assert (doubt or "").startswith(said) if said else doubt is None


def test_null_passes_are_counted_once() -> None:
    """Whatever kinds of answers they gave."""
    story = (
        Story(prompts=8, held_out=0, prefix_caching=False).baseline().null(passes=3).sleep().wake().probe(1)
    )
    assert null_passes_of(calibration_of(story.evidence())._passes) == 6
