"""How much answers differ when nothing happened."""

from __future__ import annotations

import pytest

from harness.check.noise import limits
from harness.check.result import NoiseFloor
from tests.check.stories import Story, both, garbage, shifted, updated


def test_nothing_compared_is_no_floor() -> None:
    """Noise that was not measured is not zero."""
    assert limits.noise_floor(()) is None


def test_every_kind_of_difference_is_counted() -> None:
    """Other log-probabilities differ; other tokens and other endings are another wording as well."""
    story = (
        Story()
        .baseline()
        .null(
            {
                "p0": shifted(0.25, 3),
                "p1": garbage(5),
                "p2": updated(finish_reason="repetition"),
            }
        )
    )
    floor = limits.noise_floor(story.evidence().null)
    assert floor is not None
    assert (floor.compared, floor.different, floor.reworded, floor.exact) == (8, 6, 4, False)
    assert floor.largest_logprob_shift == pytest.approx(0.25)


def test_equal_answers_are_an_exact_floor() -> None:
    """Bit by bit, and said to be so."""
    assert limits.noise_floor(Story().baseline().null().evidence().null) == NoiseFloor(
        compared=8, different=0, reworded=0, exact=True, largest_logprob_shift=0.0
    )


def test_answers_without_logprobs_have_no_shift() -> None:
    """Where nothing can be measured no number is told."""
    bare = dict.fromkeys(["p0", "p1", "p2", "p3", "p4"], updated(logprobs=None))
    floor = limits.noise_floor(Story().baseline(bare).null(bare).evidence().null)
    assert floor == NoiseFloor(compared=8, different=0, reworded=0, exact=True, largest_logprob_shift=None)


def test_the_largest_shift_is_taken_over_all_answers() -> None:
    """Whichever of them it is in, as far as tokens are shared."""
    story = Story().baseline().null({"p0": shifted(0.25, 3), "p1": both(shifted(0.5, 3), garbage(6))})
    floor = limits.noise_floor(story.evidence().null)
    assert floor is not None
    assert floor.largest_logprob_shift == pytest.approx(0.5)
