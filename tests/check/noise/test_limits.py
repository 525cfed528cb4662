"""The thresholds, and how they follow from the noise."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from harness.check.noise import limits
from harness.check.noise.exact_tests import Scores, rank_test
from harness.check.noise.limits import GROSS, PROOF, RESOLUTION

ALPHA = 1e-3
gross_limit = partial(limits.gross_limit, alpha=ALPHA)


def bf16(values: Scores) -> Scores:
    """Round as bf16 does: eight significant bits."""
    exponent = np.floor(np.log2(np.abs(values)))
    step = 2.0 ** (exponent - 7)
    rounded: Scores = np.round(values / step) * step
    return rounded


def contrasts_of(logits: Scores) -> Scores:
    """Differences to the largest logit of each row, with the rounding that log-probabilities bring."""
    logprobs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    ordered = -np.sort(-logprobs, axis=1)
    differences: Scores = (ordered[:, :1] - ordered[:, 1:]).ravel().astype(np.float64)
    return differences


def test_the_grid_of_bf16_is_found() -> None:
    """Logits between 16 and 32 lie on multiples of an eighth, and their log-probabilities show it."""
    logits = np.random.default_rng(0).uniform(16, 32, size=(400, 6))
    assert limits.rounding_step(contrasts_of(bf16(logits))) == 0.125


def test_float32_has_no_grid() -> None:
    """The last place of a float32 is too fine to be seen, or to matter."""
    logits = np.random.default_rng(0).uniform(16, 32, size=(400, 6))
    assert limits.rounding_step(contrasts_of(logits)) == 0.0
    assert limits.rounding_step(np.empty(0)) == 0.0


def test_a_few_larger_logits_do_not_hide_the_grid() -> None:
    """Smaller logits are rounded more finely: four of five contrasts decide."""
    random = np.random.default_rng(0)
    coarse = contrasts_of(bf16(random.uniform(16, 32, size=(400, 6))))
    fine = contrasts_of(random.uniform(16, 32, size=(400, 6)))
    assert limits.rounding_step(np.concatenate([coarse, fine[:400]])) == 0.125
    assert limits.rounding_step(np.concatenate([coarse, fine[:1000]])) < 0.125


@pytest.mark.parametrize(("step", "expected"), [(0.0, RESOLUTION), (2.0**-10, 2.0**-9), (0.125, 0.25)])
def test_rounding_explains_two_units_in_the_last_place(step: float, expected: float) -> None:
    """Each of two numbers may be rounded the other way; float32 has its order of additions."""
    assert limits.resolution(step) == expected


def test_a_gross_answer_lies_four_times_as_far_off() -> None:
    """On noise without a heavy tail the limit is four times the furthest null answer."""
    null = [0.1] * 100
    assert gross_limit(null, judged=100, resolution=RESOLUTION) == pytest.approx(0.4)


def test_rounding_is_never_gross() -> None:
    """Null answers that happened to agree do not make rounding damage."""
    assert gross_limit([0.0] * 64, judged=64, resolution=0.25) == pytest.approx(GROSS * 0.25)
    assert gross_limit([], judged=64, resolution=0.25) == pytest.approx(GROSS * 0.25)
    assert gross_limit([0.001], judged=64, resolution=0.25) == pytest.approx(GROSS * 0.25)


def test_a_heavy_tail_raises_the_limit() -> None:
    """Where null answers now and then lie far off, judged ones may lie further still."""
    random = np.random.default_rng(0)
    light = np.abs(random.normal(size=400))
    heavy = np.abs(random.standard_t(2, size=400))
    light_limit = gross_limit(light.tolist(), judged=400, resolution=RESOLUTION)
    heavy_limit = gross_limit(heavy.tolist(), judged=400, resolution=RESOLUTION)
    assert GROSS * light.max() <= light_limit < 2 * GROSS * light.max()
    assert heavy_limit > 4 * GROSS * heavy.max()


def test_the_tail_limit_is_rarely_exceeded() -> None:
    """On a Pareto tail, as many new answers exceed the limit about as seldom as alpha says."""
    random = np.random.default_rng(1)
    exceeded = 0
    for _ in range(1000):
        null, judged = random.pareto(3.0, size=128), random.pareto(3.0, size=128)
        exceeded += judged.max() > gross_limit(null.tolist(), judged=128, resolution=RESOLUTION)
    assert exceeded <= 20


def test_more_judged_answers_raise_the_limit() -> None:
    """The more answers are judged, the further off the furthest of them may lie."""
    heavy = np.abs(np.random.default_rng(0).standard_t(2, size=100))
    few, many = (gross_limit(heavy.tolist(), judged=n, resolution=RESOLUTION) for n in (100, 1000))
    assert many > few


def test_impossible_null_answers_leave_no_limit() -> None:
    """Where null answers cannot be explained by noise themselves, no judged one can be accused."""
    assert gross_limit([np.inf, 0.1], judged=2, resolution=RESOLUTION) == np.inf


def test_the_ratio_is_taken_within_prompts() -> None:
    """Prompts of very different noise weigh the same."""
    null = np.array([[1.0, 1.0, 1.0, 1.0], [0.01, 0.01, 0.01, 0.01], [0.1, 0.1, 0.1, 0.1]])
    judged = np.array([[1.5], [0.015], [0.15]])
    assert limits.typical_ratio(np.hstack([null, judged]), resolution=RESOLUTION) == pytest.approx(1.5)


def test_the_noisiest_null_pass_counts() -> None:
    """A judged pass no noisier than one of the null passes has a ratio of at most 1."""
    scores = np.array([[0.1, 0.1, 0.1, 0.2, 0.2]] * 8)
    assert limits.typical_ratio(scores, resolution=RESOLUTION) == pytest.approx(1.0)


def test_a_pass_in_other_batches_is_held_against_answers_that_lie_off() -> None:
    """If most null answers agree exactly, the few that do not say how far a move to other batches goes."""
    null = np.zeros((8, 6))
    null[0, 2] = null[3, 2] = 0.06
    moved, damaged = np.full((8, 1), 0.06), np.full((8, 1), 0.12)
    assert limits.typical_ratio(np.hstack([null, moved]), resolution=0.25) == pytest.approx(1.0)
    assert limits.typical_ratio(np.hstack([null, damaged]), resolution=0.25) == pytest.approx(2.0)


def test_without_any_noise_rounding_is_the_scale() -> None:
    """Null answers that all agree leave what rounding does to an answer."""
    scores = np.hstack([np.zeros((8, 6)), np.full((8, 1), 0.25)])
    assert limits.typical_ratio(scores, resolution=0.25) == pytest.approx(4.0)
    assert limits.typical_ratio(scores / 1000, resolution=RESOLUTION) == pytest.approx(0.25)


def test_scales_are_medians_of_what_lies_off() -> None:
    """Zeros do not count, and a prompt that has nothing else takes the scale of the others."""
    null = np.array([[0.0, 0.1, 0.3, 0.2], [0.0, 0.4, 0.0, 0.6], [0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
    scales = limits.null_scales(null, resolution=RESOLUTION)
    assert scales.ravel() == pytest.approx([0.2, 0.5, 0.3, 0.25])


@pytest.mark.parametrize(
    ("columns", "alpha", "prompts"), [(5, 1e-3, 5), (5, 3e-5, 7), (2, 1e-3, 10), (2, 0.5, 1)]
)
def test_prompts_needed(columns: int, alpha: float, prompts: int) -> None:
    """So many prompts that ranking first in all of them is rarer than alpha, and one less would not do."""
    assert limits.prompts_needed(columns=columns, alpha=alpha) == prompts


def test_the_smallest_shift_would_have_alarmed() -> None:
    """What is named as the smallest effect raises the alarm, and nine tenths of it do not."""
    random = np.random.default_rng(2)
    scores = np.abs(random.normal(0.06, 0.01, size=(16, 9)))
    alpha = ALPHA / 30

    def alarms(shift: float) -> bool:
        shifted = scores.copy()
        shifted[:, -1] += shift
        significant = rank_test(shifted).higher <= alpha
        return significant and limits.typical_ratio(shifted, resolution=RESOLUTION) > PROOF

    smallest = limits.smallest_shift(scores, alpha=alpha, resolution=RESOLUTION)
    assert smallest is not None
    assert alarms(smallest)
    assert not alarms(0.9 * smallest)
    assert 0.05 < smallest < 0.09


def test_nothing_is_the_smallest_shift_where_nothing_could_alarm() -> None:
    """With too few prompts no shift raises an alarm."""
    assert limits.smallest_shift(np.full((2, 3), 0.1), alpha=1e-5, resolution=RESOLUTION) is None


def test_the_noisiest_null_pass_bounds_the_smallest_shift() -> None:
    """What is no further off than the last null pass, by the margin, is never seen, however significant."""
    scores = np.tile([0.1, 0.1, 0.1, 0.3, 0.1], (16, 1))
    smallest = limits.smallest_shift(scores, alpha=ALPHA, resolution=RESOLUTION)
    assert smallest is not None
    # The scale of every prompt is 0.1 nat, the noisiest pass lies 0.3 off: 0.6 is needed, 0.1 is there.
    assert 0.5 < smallest < 0.5 * 1.06


def test_every_null_pass_counts_for_the_smallest_shift() -> None:
    """Three prompts ranked first among five are rarer than a hundredth, among four they would not be."""
    scores = np.full((3, 5), 0.1)
    assert limits.smallest_shift(scores, alpha=0.01, resolution=RESOLUTION) is not None
    assert limits.smallest_shift(scores[:, 1:], alpha=0.01, resolution=RESOLUTION) is None


def test_exactly_alpha_alarms() -> None:
    """Three prompts with one null answer each: one chance in eight."""
    scores = np.full((3, 2), 0.1)
    assert limits.smallest_shift(scores, alpha=0.125, resolution=RESOLUTION) is not None
    assert limits.smallest_shift(scores, alpha=0.1249, resolution=RESOLUTION) is None
    assert limits.prompts_needed(columns=2, alpha=0.125) == 3


@pytest.mark.parametrize(("furthest", "found"), [(0.2, True), (5.0, False)])
def test_a_shift_beyond_what_is_bearable_is_none(*, furthest: float, found: bool) -> None:
    """Where answers would have to lie off by nats, nothing is promised."""
    scores = np.tile([furthest] * 4 + [0.0], (16, 1))
    assert (limits.smallest_shift(scores, alpha=ALPHA, resolution=RESOLUTION) is not None) is found


def test_the_tail_of_null_answers_is_estimated_from_its_furthest_eighth() -> None:
    """Hill's estimator on sixteen values: two above the third, their mean logarithm the index."""
    null = [8.0, 4.0, 2.0] + [1.0] * 13
    index = (np.log(8 / 2) + np.log(4 / 2)) / 2
    expected = 8.0 * (1 / ALPHA) ** index
    assert gross_limit(null, judged=16, resolution=RESOLUTION) == pytest.approx(expected)
    assert gross_limit(null, judged=8, resolution=RESOLUTION) == pytest.approx(expected)
    assert gross_limit(null, judged=64, resolution=RESOLUTION) == pytest.approx(8.0 * (4 / ALPHA) ** index)


def test_a_longer_list_has_a_longer_tail() -> None:
    """Of thirty-two values the furthest four are held against the fifth."""
    null = [8.0] * 4 + [2.0] * 28
    assert gross_limit(null, judged=32, resolution=RESOLUTION) == pytest.approx(
        8.0 * (1 / ALPHA) ** np.log(4)
    )


def test_equal_answers_are_no_tail() -> None:
    """However many null answers are equal, only those that lie off say how far noise goes."""
    off = [0.47, 0.41, 0.40]
    alone = gross_limit(off, judged=3, resolution=RESOLUTION)
    beside_equal_ones = gross_limit([*off, *[0.0] * 13], judged=16, resolution=RESOLUTION)
    assert beside_equal_ones == pytest.approx(alone) == pytest.approx(GROSS * 0.47)
    assert gross_limit([0.47, *[0.0] * 15], judged=16, resolution=RESOLUTION) == pytest.approx(GROSS * 0.47)


def test_two_null_answers_have_a_tail_of_one() -> None:
    """As few as there are, the last of them is what the others are held against."""
    assert gross_limit([2.0, 1.0], judged=2, resolution=RESOLUTION) == pytest.approx(
        2.0 * (1 / ALPHA) ** np.log(2)
    )


@pytest.mark.parametrize(
    ("step", "found"), [(2.0, 1.0), (1.0, 1.0), (0.5, 0.5), (2.0**-10, 2.0**-10), (2.0**-11, 0.0)]
)
def test_grids_are_looked_for_from_one_nat_to_a_thousandth(step: float, found: float) -> None:
    """The coarsest grid that most contrasts lie on is taken; what is finer is none."""
    contrasts = step * np.array([1.0, 3.0, 5.0, 7.0, 9.0])
    assert limits.rounding_step(contrasts) == found


def test_four_of_five_contrasts_make_a_grid() -> None:
    """A fifth may lie off it, a little less than four fifths are too few."""
    on, off = [0.5, 1.5, 2.5, 3.5], 0.5 + 2.0**-12 * 1.5
    assert limits.rounding_step(np.array([*on, off])) == 0.5
    assert limits.rounding_step(np.array([*on, off, off])) == 0.0


def test_a_contrast_may_lie_off_the_grid_by_the_rounding_of_logprobs() -> None:
    """A hundredth of the finest grid, to either side, is what float32 makes of it."""
    near = np.array([0.5, 1.5, 2.5])
    assert limits.rounding_step(near + 9e-6) == 0.5
    assert limits.rounding_step(near - 9e-6) == 0.5
    assert limits.rounding_step(near + 1.1e-5) == 0.0


def test_scales_are_never_finer_than_rounding() -> None:
    """A null answer that lies off by next to nothing does not make the next one lie off a thousandfold."""
    null = np.array([[1e-7, 1e-7], [0.2, 0.4]])
    assert limits.null_scales(null, resolution=RESOLUTION).tolist() == [[RESOLUTION], [pytest.approx(0.3)]]


def test_the_noisiest_pass_is_a_pass() -> None:
    """Its prompts are taken together: one prompt that lies far off does not make a pass noisy."""
    null = np.array([[1.0, 2.0], [1.0, 2.0], [9.0, 2.0]])
    scales = np.ones((3, 1))
    assert limits.noisiest_pass(null, scales) == 2.0
    assert limits.noisiest_pass(null / 8, scales) == 1.0
    assert limits.noisiest_pass(null, 4 * scales) == 1.0
