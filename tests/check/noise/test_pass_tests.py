"""The questions put to every judged pass, each with its answer in words and as a p-value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from harness.check.noise import pass_tests
from harness.check.noise.pass_tests import JudgedPass, PassTest, excess
from harness.history.passes import Method
from tests.check.stories import (
    Change,
    Story,
    calibration_of,
    garbage,
    loop,
    scaled,
    shifted,
    stop_after,
    updated,
)

PROMPTS = 8
NAMES = [f"p{i}" for i in range(PROMPTS)]
SURE = 5.0**-PROMPTS
"""Every judged answer ranks first among five."""


def of_all(change: Change) -> dict[str, Change]:
    """The same change to every prompt's answer."""
    return dict.fromkeys(NAMES, change)


def judged_pass(
    null: Mapping[str, Change],
    after: Mapping[str, Change],
    *,
    before: Mapping[str, Change] | None = None,
    method: Method = Method.GENERATED,
) -> JudgedPass:
    """One judged pass beside four null answers to each of eight prompts."""
    others = () if method is Method.GENERATED else (method,)
    story = Story(prompts=PROMPTS, held_out=0, prefix_caching=False, methods=others)
    story.baseline(before).null(null, passes=4 if others else 2).sleep().wake()
    story.probe(1, warm=after, others={method: after})
    calibration = calibration_of(story.evidence())
    return next(each for each in calibration._passes if each.start.method is method)


def answers_of(judged: JudgedPass) -> dict[str, PassTest]:
    """Every test of a pass by its name."""
    return {test.name: test for test in pass_tests.tests_of(judged, beside=())}


def answered(name: str, null: Change, after: Change, *, before: Change | None = None) -> PassTest:
    """One test, when one change happens to all null answers and one to all judged ones."""
    judged = judged_pass(of_all(null), of_all(after), before=of_all(before) if before else None)
    test = answers_of(judged)[name]
    assert test.start is judged.start
    assert test.start.cycle == 1
    return test


def is_sure(test: PassTest, sentence: str) -> bool:
    """Whether a two-sided test says this, and every judged answer ranks on one side of its null answers."""
    return test.sentence == sentence and test.p_value == pytest.approx(2 * SURE)


SAME = updated()


@pytest.mark.parametrize(
    ("by", "sentence", "p_value", "material"),
    [
        (0.3, "answers typically deviate 3 times as far as null answers", SURE, True),
        (0.21, "answers typically deviate 2.1 times as far as null answers", SURE, True),
        (0.19, "answers typically deviate 1.9 times as far as null answers", SURE, False),
        (0.05, "answers typically deviate 0.5 times as far as null answers", 1.0, False),
    ],
)
def test_dense(*, by: float, sentence: str, p_value: float, material: bool) -> None:
    """Answers that all lie further off are told with the ratio; up to twice as far it proves nothing."""
    test = answers_of(judged_pass(of_all(shifted(0.1, 0)), of_all(shifted(by, 0))))["dense"]
    assert (test.checker, test.sentence, test.material) == ("divergence", sentence, material)
    assert test.p_value == pytest.approx(p_value)


@pytest.mark.parametrize(
    ("by", "prompts", "beyond"), [(0.3, 3, 3), (0.13, 3, 3), (0.12, 3, 0), (0.3, 1, 1), (0.1, 8, 0)]
)
def test_sparse(by: float, prompts: int, beyond: int) -> None:
    """Prompts beyond every null answer by the margin are counted, and each makes chance five times rarer."""
    after = dict.fromkeys(NAMES[:prompts], shifted(by, 0))
    test = answers_of(judged_pass(of_all(shifted(0.1, 0)), after))["sparse"]
    assert (test.checker, test.material) == ("divergence", True)
    assert test.sentence == f"{beyond} of 8 prompts deviate further than any null answer"
    assert test.p_value == pytest.approx(5.0**-beyond)


def test_a_pass_that_is_noisier_as_a_whole_is_not_sparse() -> None:
    """What all its answers have in common is taken off them."""
    judged = judged_pass(of_all(shifted(0.1, 0)), of_all(shifted(0.3, 0)))
    assert answers_of(judged)["sparse"].p_value == 1.0


def test_one_null_answer_that_lies_off_hides_sparse_damage() -> None:
    """A prompt that is noisy by itself says how far any prompt may lie off."""
    null = {"p7": shifted(0.3, 0)}
    assert answers_of(judged_pass(null, {"p0": shifted(0.3, 0)}))["sparse"].p_value == 1.0
    assert answers_of(judged_pass(null, {"p0": shifted(0.4, 0)}))["sparse"].p_value == pytest.approx(0.2)


def test_what_rounding_explains_is_not_sparse() -> None:
    """Where null answers agree exactly, the smallest shift that counts is what rounding cannot explain."""
    assert answers_of(judged_pass({}, {"p0": shifted(0.003, 0)}))["sparse"].p_value == 1.0
    assert answers_of(judged_pass({}, {"p0": shifted(0.005, 0)}))["sparse"].p_value == pytest.approx(0.2)


def test_repetition() -> None:
    """Loops raise it and garbage lowers it, and either direction counts."""
    more = answered("repetition", SAME, loop(4))
    assert is_sure(more, "answers repeat themselves more than null answers")
    less = answered("repetition", loop(4), garbage(), before=loop(4))
    assert is_sure(less, "answers repeat themselves less than null answers")
    assert answered("repetition", SAME, garbage()).p_value == 1.0


def test_repetition_is_measured_on_equal_lengths() -> None:
    """An answer that breaks off before its loop begins repeats itself no less than the others did by then."""
    assert answered("repetition", loop(12), stop_after(12), before=loop(12)).p_value == 1.0


def test_length() -> None:
    """Answers that all end later, or sooner, than null answers."""
    sooner = answered("length", SAME, stop_after(5))
    assert is_sure(sooner, "answers are shorter than null answers")
    later = answered("length", stop_after(5), stop_after(9), before=stop_after(5))
    assert is_sure(later, "answers are longer than null answers")
    assert answered("length", SAME, garbage()).p_value == 1.0


def test_ending() -> None:
    """Answers that stop where none did, or run on where all stopped, however long they are."""
    fewer = answered("ending", stop_after(5), loop(0), before=stop_after(5))
    assert is_sure(fewer, "fewer answers end by themselves than null answers")
    more = answered("ending", loop(0), stop_after(24), before=loop(0))
    assert is_sure(more, "more answers end by themselves than null answers")
    # Any other ending than a stop is no stop.
    assert answered("ending", SAME, updated(finish_reason="length")).p_value > SURE


@pytest.mark.parametrize(
    ("name", "checker"),
    [("repetition", "repetition"), ("length", "termination"), ("ending", "termination")],
)
def test_tests_of_what_was_generated_accuse_as_their_checkers_do(name: str, checker: str) -> None:
    """Findings are grouped by what they are about; answers that are all the same are no matter of any."""
    test = answers_of(judged_pass({}, {}))[name]
    assert (test.checker, test.material, test.p_value) == (checker, False, 1.0)


@pytest.mark.parametrize("judged", [104.0, 95.9])
def test_the_judged_pass_is_held_against_the_noisiest_null_pass(judged: float) -> None:
    """Null passes lie up to 4 from the others, and the judged one as many times further off."""
    null = np.array([[103.0, 100.0, 99.0, 98.0]] * 6)
    scores = np.hstack([null, np.full((6, 1), judged)])
    assert excess(scores, least=1.0) == pytest.approx(abs(judged - 100.0) / 4.0)
    assert excess(scores, least=50.0) == pytest.approx(abs(judged - 100.0) / 25.0)


@pytest.mark.parametrize(
    ("factor", "material"), [(0.98, True), (1.02, True), (0.994, True), (1.004, False), (0.996, False)]
)
def test_scale(*, factor: float, material: bool) -> None:
    """A common factor is damage from half a percent on, whichever its direction."""
    test = answers_of(judged_pass({}, of_all(scaled(factor))))["scale"]
    assert (test.checker, test.material) == ("divergence", material)
    assert test.p_value == pytest.approx(2 * SURE)
    assert test.sentence == f"the gaps between candidates are typically {factor:.3g} times as wide as before"


def test_scale_is_held_against_the_null_passes() -> None:
    """Where null passes are rescaled by as much, it is noise."""
    judged = judged_pass(of_all(scaled(0.98)), of_all(scaled(0.979)))
    assert answers_of(judged)["scale"].material is False


@pytest.mark.parametrize(
    ("parts_at", "tokens", "material"), [(5, 6, True), (10, 11, True), (11, 12, False), (23, 24, False)]
)
def test_sampling(*, parts_at: int, tokens: int, material: bool) -> None:
    """With the same seed answers part later on; less than half as late as null answers is damage."""
    judged = judged_pass({}, of_all(garbage(parts_at)), method=Method.SAMPLED)
    test = answers_of(judged)["sampling"]
    assert (test.checker, test.material) == ("divergence", material)
    assert test.sentence == (
        f"with the same seed, answers typically diverge after {tokens} tokens, null answers after 24"
    )


def test_sampling_counts_the_prompts_that_part_sooner() -> None:
    """Every prompt that parts before its null answers did makes chance five times rarer."""
    judged = judged_pass({}, of_all(garbage(5)), method=Method.SAMPLED)
    assert answers_of(judged)["sampling"].p_value == pytest.approx(SURE)
    assert answers_of(judged_pass({}, {}, method=Method.SAMPLED))["sampling"].p_value == 1.0


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (Method.GENERATED, ["dense", "sparse", "scale", "repetition", "length", "ending"]),
        (Method.SAMPLED, ["dense", "sparse", "scale", "sampling"]),
        (Method.SCORED, ["dense", "sparse", "scale"]),
    ],
)
def test_a_pass_is_asked_what_its_answers_can_tell(method: Method, names: list[str]) -> None:
    """Given tokens neither repeat nor end, and sampled ones do so by chance."""
    assert list(answers_of(judged_pass({}, {}, method=method))) == names


def test_only_as_many_null_answers_count_as_every_prompt_has() -> None:
    """A prompt that failed in one null pass takes no more than its equals out of the others."""
    story = Story(prompts=PROMPTS, held_out=0, prefix_caching=False).baseline().null(passes=2)
    story.null({"p0": shifted(0.5, 0)}).sleep().wake().probe()
    story.events = [
        event
        for event in story.events
        if not (getattr(event, "prompt", "") == "p1" and getattr(event, "pass_number", 0) in {8, 9})
    ]
    judged = calibration_of(story.evidence())._passes[0]
    assert judged.null == 4
    assert judged.distances(lambda each: each.furthest).shape == (PROMPTS, 5)
    assert judged.answers(lambda track, window: window / len(track.tokens)).tolist() == [[1.0] * 5] * PROMPTS
    # The fifth and sixth null answers of p0, which lie off, are left out.
    assert judged.distances(lambda each: each.furthest).max() == 0.0


def test_one_noisy_null_pass_is_not_left_out() -> None:
    """Whichever of the null passes it is, its answers count like the others'."""
    for noisy in range(1, 5):
        story = Story(prompts=PROMPTS, held_out=0, prefix_caching=False, methods=(Method.SAMPLED,)).baseline()
        for number in range(1, 5):
            # All of a null transition's answers, so that equal ones of another pass are not their nearest.
            story.null(of_all(garbage(9)) if number == noisy else {})
        story.sleep().wake().probe(1, others={Method.SAMPLED: of_all(garbage(8))})
        judged = next(
            each for each in calibration_of(story.evidence())._passes if each.start.method is Method.SAMPLED
        )
        test = answers_of(judged)["sampling"]
        assert test.start is judged.start
        assert not test.material
        assert test.sentence == (
            "with the same seed, answers typically diverge after 9 tokens, null answers after 24"
        )


@pytest.mark.parametrize("noisy", [1, 2, 3, 4])
def test_sparse_damage_hides_behind_any_null_pass(noisy: int) -> None:
    """The furthest null answer may be in the first pass or in the last."""
    story = Story(prompts=PROMPTS, held_out=0, methods=(Method.SCORED,)).baseline()
    for number in range(1, 5):
        story.null(of_all(shifted(0.3, 0)) if number == noisy else {})
    story.sleep().wake().probe(1, others={Method.SCORED: {"p0": shifted(0.3, 0)}})
    judged = next(
        each for each in calibration_of(story.evidence())._passes if each.start.method is Method.SCORED
    )
    assert answers_of(judged)["sparse"].p_value == 1.0
