"""Where the line between noise and damage runs, on stories whose every shift is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.check.evidence import Evidence
from harness.check.noise.budget import OF_ONE_CELL, Family
from harness.check.noise.calibration import Calibration, prompts_in_noise
from harness.check.noise.distance import Track
from harness.check.noise.limits import GROSS, RESOLUTION
from harness.check.noise.null_answers import Pool, Row
from harness.check.noise.pass_tests import TESTS_OF_A_PASS
from harness.check.noise.pass_tests import tests_of as questions_to
from harness.check.result import Finding, Strength
from harness.history.passes import CacheCondition, Control, Role
from tests.check.simulation import Noise, Setup, simulate
from tests.check.stories import Change, Story, both, calibration_of, garbage, nearly_tied, shifted, updated

SLIGHT = 0.1 / 3
"""nat; what moving all of three candidates by 0.1 nat comes to in the mean."""


def noisy(*, prompts: int = 8, null_passes: int = 2, null: Change | None = None) -> Story:
    """A cell whose null answers all lie off a little, two to a prompt in a null pass, before its probe."""
    story = Story(prompts=prompts, held_out=0, prefix_caching=False).baseline()
    return story.null(dict.fromkeys(story.names, null or shifted(0.1, 0)), passes=null_passes).sleep().wake()


def calibrated(story: Story) -> Calibration:
    """What is held against the noise of a story."""
    return calibration_of(story.evidence())


def test_a_gross_answer_lies_off_four_times_as_far_as_the_furthest_null_answer() -> None:
    """Three times as far is noise, five times is damage; both beside the same limit."""
    story = noisy().probe(1, warm={"p3": shifted(0.5, 23)}, cold={"p3": shifted(0.3, 0)})
    calibration = calibrated(story)
    assert calibration.gross_limit == pytest.approx(GROSS * SLIGHT, rel=1e-4)
    [row] = calibration.gross
    assert (row.track.reply.answer.prompt, row.track.reply.start.cache.value) == ("p3", "warm")
    assert [reply.answer.prompt for reply in calibration.damaged] == ["p3"]
    [finding] = calibration.findings()
    assert finding == Finding(
        checker="divergence",
        message="p3, cycle 1, warm: token 23 deviates by 0.167 nat; 0.13 is the most that noise explains",
        strength=Strength.PROOF,
        prompt="p3",
        pass_number=row.track.reply.start.number,
        cycle=1,
        evidence={
            "test": "gross",
            "deviation": row.distance.furthest,
            "limit": calibration.gross_limit,
            "position": 23,
            "null_answers": 4,
        },
    )


def test_what_no_noise_explains_is_told_without_a_number() -> None:
    """Tokens of which nothing says how likely they were are infinitely far off, which JSON cannot hold."""
    lost = both(garbage(5), updated(logprobs=None))
    [finding] = calibrated(noisy().probe(1, warm={"p3": lost})).findings()
    assert finding.message == (
        "p3, cycle 1, warm: token 5 cannot be explained by noise; 0.13 is the most that noise explains"
    )
    assert finding.evidence["deviation"] is None


def test_an_alarm_leads_to_its_pass() -> None:
    """Every alarm is one finding, with the pass it is about and both of its p-values."""
    story = noisy()
    for number in (1, 2):
        moved = {f"p{i}": shifted(0.35, 0) for i in range(8)}
        story.probe(number, warm=moved, cold=moved)
    calibration = calibrated(story)
    assert calibration.gross == ()
    assert {alarm.test.name for alarm in calibration.alarms} == {"dense"}
    for alarm, finding in zip(calibration.alarms, calibration.findings(), strict=True):
        assert finding == Finding(
            checker="divergence",
            message=finding.message,
            strength=Strength.PROOF,
            pass_number=alarm.test.start.number,
            cycle=alarm.test.start.cycle,
            evidence={
                "test": alarm.test.name,
                "p_value": alarm.test.p_value,
                "adjusted_p_value": alarm.adjusted,
            },
        )
    assert {finding.cycle for finding in calibration.findings()} == {1, 2}
    assert "cycle 1, warm: answers typically deviate 3.5 times as far as null answers (p = " in (
        calibration.findings()[0].message
    )


def test_the_odd_answers_of_a_pass_that_alarms_bear_its_damage() -> None:
    """In such a pass those that lie further off than all their null answers, and no others."""
    story = noisy(prompts=10)
    moved = {f"p{i}": shifted(0.35, 0) for i in range(1, 10)}
    story.probe(1, warm=moved, cold=moved).probe(2)
    damaged = [(reply.start.cycle, reply.answer.prompt) for reply in calibrated(story).damaged]
    assert damaged == [(1, f"p{i}") for i in range(1, 10)] * 2


@pytest.mark.parametrize(("passes", "alarms"), [(1, False), (2, True)])
def test_a_typical_shift_counts_from_the_second_pass_on(*, passes: int, alarms: bool) -> None:
    """One pass may have fallen into other batches; a dense alarm needs a second one."""
    moved = {f"p{i}": shifted(0.15, 0) for i in range(8)}
    calibration = calibrated(
        noisy(null=shifted(0.1, 0)).probe(1, warm=moved, cold=moved if passes == 2 else {})
    )
    assert any(alarm.test.name == "dense" for alarm in calibration.alarms) is alarms


@pytest.mark.parametrize(("shift", "alarms"), [(0.35, False), (0.45, True)])
def test_a_single_pass_must_lie_far_off_where_there_is_no_other(*, shift: float, alarms: bool) -> None:
    """Nothing else tells damage from a pass that is odd by itself; less than four times as far is doubt."""
    story = noisy()
    moved = {f"p{i}": shifted(shift, 0) for i in range(8)}
    story.probe(1, warm=moved)
    cold = story.recording().passes[-1].start.number
    story.events = [
        event
        for event in story.events
        if cold not in (getattr(event, "number", 0), getattr(event, "pass_number", 0))
    ]
    calibration = calibrated(story)
    assert ("dense" in {alarm.test.name for alarm in calibration.alarms}) is alarms
    [obstacle] = calibration.obstacles()
    assert obstacle.startswith("in 1 of 1 passes answers deviate together, up to ")
    assert "give null_transition twice as many passes" in obstacle


def probed(*, warm: float, cold: float) -> Calibration:
    """Every answer of a pass lies off by as much; a shift may be up or down."""
    moved = [{f"p{i}": shifted(size, 0) for i in range(8)} for size in (warm, cold)]
    return calibrated(noisy().probe(1, warm=moved[0], cold=moved[1]))


def test_noise_that_scatters_is_not_damage_that_lasts() -> None:
    """Passes that lie off, but as far from each other, are noisier: doubt, not proof."""
    calibration = probed(warm=0.19, cold=-0.19)
    assert calibration.alarms == ()
    [obstacle] = calibration.obstacles()
    assert obstacle.startswith("in 2 of 2 passes answers deviate together, up to 1.9 times as far")


def test_damage_that_lasts_is_proven_sooner() -> None:
    """Both passes lie off by as much, and in the same way."""
    assert {alarm.test.name for alarm in probed(warm=0.19, cold=0.19).alarms} == {"dense"}


@pytest.mark.parametrize(("prompts", "needed"), [(2, 4), (3, 4), (4, None)])
def test_prompts_that_are_too_few_are_counted(prompts: int, needed: int | None) -> None:
    """Nine answers to a prompt: no outcome of three prompts is rare enough, one of four is."""
    story = noisy(prompts=prompts, null_passes=4).probe(1)
    expected = [f"{prompts} prompts are too few to tell damage from noise: use {needed}"] if needed else []
    assert list(calibrated(story).obstacles()) == expected


def test_noise_that_hides_too_much_is_named() -> None:
    """The limit, and what would lower it."""
    story = noisy(null=shifted(6.0, 0)).probe(1)
    [obstacle] = calibrated(story).obstacles()
    assert obstacle == (
        "the noise is so large that an answer off by 8 nat would not show: lower the concurrency to 1"
    )


def test_noise_without_a_bound_is_not_put_into_figures() -> None:
    """Null answers that do not tell how likely their tokens were lie infinitely far off."""
    unexplained = updated(logprobs=None)
    [obstacle] = calibrated(noisy(null=unexplained).probe(1)).obstacles()
    assert obstacle.startswith("the noise is so irregular that an answer, however far off, would not show:")


def test_null_answers_that_are_too_few_are_counted() -> None:
    """Only the prompts concerned; three null answers are one too few."""
    story = noisy().probe(1)
    numbers = [each.start.number for each in story.recording().passes if each.start.role == "null"]
    story.events = [
        event
        for event in story.events
        if (getattr(event, "prompt", ""), getattr(event, "pass_number", 0)) != ("p2", numbers[-1])
    ]
    [obstacle] = calibrated(story).obstacles()
    assert "2 of 16 answers cannot be compared with 4 null answers under the same conditions" in obstacle


@pytest.mark.parametrize(("shift", "quiet"), [(2.9 * RESOLUTION, True), (3.1 * RESOLUTION, False)])
def test_rounding_is_quiet(*, shift: float, quiet: bool) -> None:
    """Null answers a thousandth of a nat off are the order of additions; one null pass suffices then."""
    assert calibrated(noisy(null=shifted(shift, 0)).probe(1)).quiet is quiet


def test_coarse_logits_are_never_quiet() -> None:
    """In bf16 a move of one unit is possible even if no null answer showed one."""
    calibration = calibration_of(Evidence(simulate(0, Setup(noise=Noise(sd=0.0), cycles=1, prompts=4))))
    assert calibration.resolution == pytest.approx(0.125)
    assert not calibration.quiet


def test_a_baseline_that_lies_off_is_not_quiet() -> None:
    """What is uncertain need not be a null answer."""
    story = Story(prompts=4, held_out=0).baseline()
    story.events = [
        shifted(0.1, 0)(event) if getattr(event, "pass_number", 0) == 1 and event.kind == "answer" else event
        for event in story.events
    ]
    assert not calibrated(story.null().cycle(1)).quiet


def test_nothing_judged_leaves_the_limits_of_float32() -> None:
    """Without a judged answer there is nothing to measure a grid on, nor anything to accuse."""
    calibration = calibrated(Story().baseline().null())
    assert (calibration.rows, calibration.gross, calibration.alarms, calibration.damaged) == ((), (), (), ())
    assert calibration.resolution == RESOLUTION
    assert calibration.gross_limit == GROSS * RESOLUTION
    assert calibration.smallest_shift is None
    assert list(calibration.obstacles()) == []


def test_an_answer_without_null_answers_is_never_gross() -> None:
    """However far off it lies, nothing says how far answers to that prompt lie off by themselves."""
    story = (
        Story(prompts=8, held_out=0, prefix_caching=False).baseline().null({"p0": shifted(0.1, 0)}, passes=2)
    )
    story.events = [
        event
        for event in story.events
        if not (getattr(event, "prompt", "") == "p3" and getattr(event, "pass_number", 0) > 3)
    ]
    assert calibrated(story.sleep().wake().probe(1, warm={"p3": garbage()})).gross == ()


def test_the_smallest_shift_is_that_of_the_least_sensitive_pass() -> None:
    """What is told could have been seen in whichever pass it came; one blind pass, and nothing is told."""
    steady = noisy().probe(1)
    smallest = calibrated(steady).smallest_shift
    assert smallest is not None
    uneven = calibrated(noisy().probe(1, warm={f"p{i}": shifted(0.03, 0) for i in range(8)}))
    shifts = [replace_passes(uneven, number).smallest_shift for number in range(2)]
    assert shifts[0] != shifts[1]
    assert uneven.smallest_shift == max(shift for shift in shifts if shift is not None)
    assert calibrated(noisy(prompts=2).probe(1)).smallest_shift is None


def replace_passes(calibration: Calibration, number: int) -> Calibration:
    """The same calibration, one of its passes alone; the number of tests stays."""
    alone = Calibration(judged=calibration._judged_replies, null_answers=calibration._null_answers)
    alone.__dict__["_tests"] = calibration._tests
    alone.__dict__["_passes"] = (calibration._passes[number],)
    return alone


def test_alpha_is_shared_by_all_tests() -> None:
    """However many questions are put to a pass, twice as many passes leave half of it to each."""
    one, two = calibrated(noisy().probe(1)), calibrated(noisy().probe(1).probe(2))
    assert one._alpha_of_a_test == pytest.approx(OF_ONE_CELL.alpha(Family.TOGETHER) / len(one._tests))
    assert two._alpha_of_a_test == pytest.approx(one._alpha_of_a_test / 2)


def controlled(change: Change | None, *, prompts: int = 8) -> int:
    """How many of eight answers to a control have healed, if so many of them are changed."""
    story = noisy().probe(1, warm={f"p{i}": shifted(0.35, 0) for i in range(8)})
    names = [f"p{i}" for i in range(prompts)]
    story.control(Control.FRESH_SALT, dict.fromkeys(names, change) if change else {})
    evidence = story.evidence()
    return calibration_of(evidence).healed(evidence.control_replies(Control.FRESH_SALT))


def test_a_control_is_held_against_the_same_noise() -> None:
    """Gross answers have not healed; answers that deviate together have not; what noise explains has."""
    assert controlled(None) == 8
    assert controlled(garbage(), prompts=3) == 5
    assert controlled(garbage()) == 0
    assert controlled(shifted(0.35, 0)) == 0
    assert controlled(shifted(0.35, 0), prompts=1) == 8
    assert controlled(shifted(0.35, 0), prompts=5) == 3
    assert calibration_of(noisy().probe(1).evidence()).healed(()) == 0


def test_controls_without_null_answers_are_believed_singly() -> None:
    """Unseen prompts have a baseline answer and nothing else: only a gross one has not healed."""
    story = Story(held_out=4, prefix_caching=False).baseline().null({"p0": shifted(0.1, 0)}, passes=2)
    story.sleep().wake().probe(1)
    story.control(Control.UNSEEN_PROMPTS, {"p4": garbage(), "p5": shifted(0.2, 0)})
    evidence = story.evidence()
    assert calibration_of(evidence).healed(evidence.control_replies(Control.UNSEEN_PROMPTS)) == 3


def tracks_of(change: Change) -> tuple[Track, Track]:
    """Two answers to one prompt, the second of which is changed."""
    replies = Story(prompts=1, held_out=0).baseline({"p0": change}).evidence().baseline_replies
    usual = Story(prompts=1, held_out=0).baseline().evidence().baseline_replies
    return Track(usual[0]), Track(replies[0])


def test_the_spread_does_not_depend_on_the_order_of_the_baseline() -> None:
    """Whichever of two answers came first, the surer one says how far they lie apart."""
    usual, other = tracks_of(both(nearly_tied(5, 0.01), garbage(5)))
    spreads = [Pool(baseline=order).spread for order in ((usual, other), (other, usual))]
    assert spreads[0] == spreads[1] > 0.5
    third = [Pool(baseline=order).spread for order in ((usual, usual, other), (other, usual, usual))]
    assert third[0] == third[1] > 0.5


def test_without_null_answers_whatever_lies_off_exceeds_them() -> None:
    """Nothing was seen to lie off, so anything does; an equal answer does not."""
    story = Story().baseline().null().cycle().control(Control.UNSEEN_PROMPTS, {"p4": shifted(0.3)})
    evidence = story.control(Control.UNSEEN_PROMPTS).evidence()
    rows: list[Row] = evidence.null_answers.rows(evidence.control_replies(Control.UNSEEN_PROMPTS))
    assert [row.exceeds for row in rows] == [True, False]


def test_a_cut_off_pass_is_judged_as_far_as_it_goes() -> None:
    """Answers that are missing do not keep the others from being held against the noise."""
    recording = noisy().probe(1, warm={"p3": shifted(0.5, 0)}).recording()
    last = recording.passes[-1]
    cut = replace(recording, passes=(*recording.passes[:-1], replace(last, answers={})))
    calibration = calibration_of(Evidence(cut))
    assert len(calibration.rows) == 8
    assert len(calibration.gross) == 1
    assert np.isfinite(calibration.gross_limit)


@pytest.mark.parametrize("cycles", [1, 3])
def test_as_many_prompts_as_noise_takes_are_no_obstacle(cycles: int) -> None:
    """What a script is given up front is what its verdict asks for in the end: no prompt less would do."""
    needed = prompts_in_noise(2 * cycles)

    def obstacles(prompts: int) -> list[str]:
        story = noisy(prompts=prompts)
        for number in range(1, cycles + 1):
            story.probe(number)
        return [each for each in calibrated(story).obstacles() if "too few" in each]

    assert obstacles(needed) == []
    assert obstacles(needed - 1) == [
        f"{needed - 1} prompts are too few to tell damage from noise: use {needed}"
    ]


def test_no_pass_is_asked_more_questions_than_prompts_are_counted_for() -> None:
    """Each question takes a part of the alpha, and so prompts."""
    [judged, *_] = calibrated(noisy().probe(1))._passes
    assert len(list(questions_to(judged, beside=()))) == TESTS_OF_A_PASS


def read_from_the_cache_before(*, after: Change | None = None) -> Calibration:
    """Null answers that were read from the cache, and judged ones that were computed, as the baseline was."""
    story = Story(held_out=0)
    story._begin("probe", name="baseline")
    story.ask(Role.BASELINE, CacheCondition.WARM)
    story.ask(Role.NULL, CacheCondition.WARM).sleep().wake()
    story.ask(Role.AFTER, CacheCondition.WARM, cycle=1, changes={"p1": after} if after else None)
    return calibrated(story)


def test_an_answer_that_is_the_baselines_needs_no_null_answer_where_nothing_differs() -> None:
    """Null answers tell how far off a healthy one may lie, and it does not lie off."""
    assert list(read_from_the_cache_before().obstacles()) == []
    assert list(read_from_the_cache_before(after=shifted(RESOLUTION / 2, 3)).obstacles()) == []


def test_an_answer_that_is_not_the_baselines_needs_one_all_the_same() -> None:
    """Whether answers that are computed differ by themselves is not known then."""
    [obstacle] = read_from_the_cache_before(after=shifted(0.5, 3)).obstacles()
    assert obstacle.startswith("the noise is not known well enough: 1 of 4 answers cannot be compared")
