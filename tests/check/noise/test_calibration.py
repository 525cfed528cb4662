"""Telling damage from noise, on simulated engines whose noise and damage are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from harness.check import judge
from harness.check.evidence import Evidence
from harness.check.result import Cause, CellResult, Strength, Verdict
from harness.check.verdict import noise_is_known
from harness.history.passes import CacheCondition, Control, Role
from harness.history.recording import Recording
from tests.check.simulation import END_OF_SEQUENCE, VOCABULARY, Damage, Engine, Floats, Noise, Setup
from tests.check.simulation import simulate as simulate_anew
from tests.check.stories import calibration_of

BF16 = Noise()
QUIET = Noise(sd=1e-6, quantum=0.0)
Rows = npt.NDArray[np.int64]

SEEDS = pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.cell) for seed in range(1, 3))]
)
"""One engine of a kind is imagined in the fast tests, three in the gate, and there kinds like another too."""


@cache
def simulate(seed: int, setup: Setup = Setup()) -> Recording:  # noqa: B008 - a setup is frozen
    """The same engine is imagined once, for whichever tests read what it answered."""
    return simulate_anew(seed, setup)


@cache
def judged(seed: int, setup: Setup = Setup()) -> CellResult:  # noqa: B008 - a setup is frozen
    """Its verdict, likewise."""
    return judge(simulate(seed, setup))


def alarming(recording: Recording) -> set[str]:
    """Names of the tests that alarm on a recording."""
    calibration = calibration_of(Evidence(recording))
    return {alarm.test.name for alarm in calibration.alarms} | ({"gross"} if calibration.gross else set())


def scaled(factor: float) -> Damage:
    """Every logit times a factor: no greedy token changes but by noise."""
    return lambda logits, _rows, _position, _random: logits * factor


def biased(size: float) -> Damage:
    """Every token's logit moved by an amount of its own, as a slightly wrong matrix would."""
    bias = size * np.random.default_rng(5).normal(size=VOCABULARY)
    return lambda logits, _rows, _position, _random: logits + bias


def late(logits: Floats, _rows: Rows, position: int, random: np.random.Generator) -> Floats:
    """Damage from the fortieth token on."""
    return logits + random.normal(0, 1.0, logits.shape) if position >= 40 else logits


def one_prompt(logits: Floats, _rows: Rows, _position: int, random: np.random.Generator) -> Floats:
    """A single prompt is answered with garbage."""
    logits[3] = random.normal(0, 3.0, logits.shape[1])
    return logits


def swapped(logits: Floats, _rows: Rows, position: int, _random: np.random.Generator) -> Floats:
    """Two rows of a batch are swapped once."""
    if position == 7:
        logits[[2, 5]] = logits[[5, 2]]
    return logits


def eager(logits: Floats, _rows: Rows, _position: int, _random: np.random.Generator) -> Floats:
    """Answers want to end sooner."""
    logits[:, END_OF_SEQUENCE] += 1.0
    return logits


def never_ending(logits: Floats, _rows: Rows, _position: int, _random: np.random.Generator) -> Floats:
    """Answers cannot end."""
    logits[:, END_OF_SEQUENCE] -= 100.0
    return logits


def one_step(logits: Floats, _rows: Rows, position: int, _random: np.random.Generator) -> Floats:
    """One candidate of one token is a rounding step likelier, as another batch may make it."""
    if position == 5:
        logits[:, 1] += 0.0625
    return logits


@pytest.mark.parametrize(
    "setup",
    [
        Setup(),
        pytest.param(Setup(null_passes=8), marks=pytest.mark.cell),
        Setup(noise=Noise(per_pass=0.2)),
        Setup(noise=Noise(heavy=True)),
        Setup(noise_after=Noise(sd=1.3 * BF16.sd)),
        Setup(noise=QUIET, null_passes=1),
    ],
    ids=["bf16", "more null passes", "uneven passes", "heavy tail", "noisier afterwards", "float32"],
)
@SEEDS
def test_healthy_engines_raise_no_alarm(setup: Setup, seed: int) -> None:
    """Whatever the noise looks like, nothing is proven against an engine that came back the same."""
    assert alarming(simulate(seed, setup)) == set()


def test_healthy_engines_are_clean_although_most_answers_differ() -> None:
    """Exact comparison would alarm nearly always; the clean verdict says what could have been seen."""
    result = judged(0)
    assert result.verdict is Verdict.CLEAN
    assert result.findings == ()
    assert result.noise is not None
    assert result.noise.different > result.noise.compared / 2
    assert result.bound is not None
    assert result.bound.smallest_single_shift is not None
    assert 0.5 < result.bound.smallest_single_shift < 3.0
    assert result.bound.smallest_common_shift is not None
    assert 0.005 < result.bound.smallest_common_shift < 0.1
    assert "none off by" in result.bound.statement


@pytest.mark.parametrize(
    ("damage", "alarm"),
    [
        (scaled(0.97), "dense"),
        pytest.param(scaled(0.98), "scale", marks=pytest.mark.cell),
        (scaled(1.02), "scale"),
        pytest.param(biased(0.12), "dense", marks=pytest.mark.cell),
        (late, "sparse"),
        (one_prompt, "gross"),
        pytest.param(swapped, "gross", marks=pytest.mark.cell),
        (eager, "ending"),
        pytest.param(eager, "length", marks=pytest.mark.cell),
        pytest.param(never_ending, "gross", marks=pytest.mark.cell),
    ],
)
@SEEDS
@pytest.mark.cell
def test_damage_alarms(damage: Damage, alarm: str, seed: int) -> None:
    """Every kind of damage is seen by the test that is made for it."""
    result = judged(seed, Setup(damage=damage))
    assert alarm in {finding.evidence.get("test") for finding in result.findings}
    assert result.verdict is Verdict.CORRUPT


def test_small_damage_in_most_passes_is_never_called_clean() -> None:
    """No further off than rounding takes a pass now and then, but in nearly all of them: that is doubt."""
    result = judged(0, Setup(damage=biased(0.05)))

    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason.startswith("in 4 of 4 passes answers deviate together")
    assert "float32" in result.reason


def test_small_damage_in_half_of_the_passes_is_what_noise_does() -> None:
    """Requests fall into other batches now and then, and move all answers of a pass."""
    setup = Setup(damage=biased(0.05), damaged_caches=(CacheCondition.COLD,))

    assert judged(0, setup).verdict is Verdict.CLEAN


@pytest.mark.cell
def test_damage_from_the_third_cycle_on_alarms() -> None:
    """Healthy cycles before do not dilute what comes after."""
    setup = Setup(damage=scaled(0.96), cycles=3, from_cycle=3)
    alarms = calibration_of(Evidence(simulate(0, setup))).alarms
    assert {alarm.test.start.cycle for alarm in alarms} == {3}


@pytest.mark.cell
def test_one_noisier_pass_is_not_damage() -> None:
    """Requests may fall into other batches in one pass: a typical shift counts from the second pass on."""
    moved = Setup(damage=scaled(0.97), damaged_caches=(CacheCondition.COLD,), cycles=2, from_cycle=2)
    assert "dense" not in alarming(simulate(1, moved))
    again = replace(moved, from_cycle=1)
    assert "dense" in alarming(simulate(1, again))


def test_an_alarm_is_told_with_its_p_value() -> None:
    """The finding names pass, effect and the p-value after correction, which is never 0."""
    result = judged(0, Setup(damage=scaled(0.96)))
    dense = [finding for finding in result.findings if finding.evidence.get("test") == "dense"]
    assert len(dense) == 4
    assert dense[0].message.startswith("cycle 1, warm: answers typically deviate ")
    assert " times as far as null answers (p = " in dense[0].message
    assert dense[0].strength is Strength.PROOF
    assert dense[0].checker == "divergence"
    adjusted, p_value = dense[0].evidence["adjusted_p_value"], dense[0].evidence["p_value"]
    assert isinstance(adjusted, float)
    assert isinstance(p_value, float)
    assert 0 < p_value <= adjusted <= 1e-3


def test_a_gross_answer_is_told_with_its_limit() -> None:
    """The finding names prompt, token, distance and the most that noise explains."""
    result = judged(0, Setup(damage=one_prompt))
    [first, *_] = [finding for finding in result.findings if finding.evidence.get("test") == "gross"]
    assert first.prompt == "p3"
    distance, limit = first.evidence["deviation"], first.evidence["limit"]
    assert isinstance(distance, float)
    assert isinstance(limit, float)
    assert distance > limit
    assert first.message == (
        f"p3, cycle 1, warm: token {first.evidence['position']} deviates by {distance:.3g} nat; "
        f"{limit:.2g} is the most that noise explains"
    )
    assert result.witness is not None
    assert result.witness.prompt == "p3"
    assert "answers to 1 of 16 prompts changed" in result.reason


def test_differences_within_the_noise_are_not_told() -> None:
    """Beside the damaged prompt most others differ as well; no finding accuses them."""
    result = judged(0, Setup(damage=one_prompt))
    assert {finding.prompt for finding in result.findings if finding.prompt} == {"p3"}


def test_too_few_null_passes_are_inconclusive() -> None:
    """Three null passes do not measure noise well enough, and the reason says how many would."""
    result = judged(0, Setup(null_passes=1))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "give null_transition 4 or more passes" in result.reason


def test_too_few_prompts_are_inconclusive() -> None:
    """With three prompts nothing could alarm, so nothing can be clean."""
    result = judged(0, Setup(prompts=3))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "3 prompts are too few to tell damage from noise: use 4" in result.reason


def test_too_much_noise_is_inconclusive() -> None:
    """Where an answer could be garbage and not show, the limit is never loosened to clean."""
    result = judged(0, Setup(noise=Noise(sd=0.5)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "the noise is so large" in result.reason


def test_null_passes_that_happen_to_agree_do_not_make_bf16_exact() -> None:
    """A move of one rounding step is no damage, though no null answer showed one."""
    setup = Setup(noise=Noise(sd=0.0), damage=one_step, cycles=1)
    assert alarming(simulate(0, setup)) == set()
    assert judged(0, setup).verdict is Verdict.CLEAN


ALONE = Setup(noise=Noise(sd=0.0), concurrency=1, cycles=1)
"""A coarse engine that answers one request at a time, and always alike."""


@pytest.mark.parametrize(
    ("setup", "verdict"),
    [
        (ALONE, Verdict.CORRUPT),
        (replace(ALONE, concurrency=2), Verdict.CLEAN),
        pytest.param(replace(ALONE, null_passes=1), Verdict.INCONCLUSIVE, marks=pytest.mark.cell),
        pytest.param(replace(ALONE, noise=Noise(sd=1e-2)), Verdict.CLEAN, marks=pytest.mark.cell),
    ],
    ids=["alone", "beside another", "too seldom", "not always alike"],
)
def test_what_always_came_again_must_come_again(setup: Setup, verdict: Verdict) -> None:
    """A request that is alone cannot fall into another batch: then no rounding step is excused."""
    assert judged(0, setup).verdict is not Verdict.CORRUPT
    assert judged(0, replace(setup, damage=one_step)).verdict is verdict


def test_another_part_from_the_cache_need_not_come_again_bit_by_bit() -> None:
    """What is computed beside another part of the prompt is computed in other shapes."""
    recording = simulate(0, ALONE)
    read = replace(
        recording.passes[-1],
        answers={
            name: answer.model_copy(update={"cached_tokens": 16})
            for name, answer in recording.passes[-1].answers.items()
        },
    )

    assert calibration_of(Evidence(recording)).reproducible
    assert not calibration_of(
        Evidence(replace(recording, passes=(*recording.passes[:-1], read)))
    ).reproducible


def test_quiet_engines_need_one_null_pass() -> None:
    """In float32 a single null pass suffices: whatever is visible is no rounding error."""
    result = judged(0, Setup(noise=QUIET, null_passes=1))
    assert result.verdict is Verdict.CLEAN
    assert result.bound is not None
    assert result.bound.smallest_single_shift == pytest.approx(4e-3)


@pytest.mark.parametrize(
    "damage", [scaled(0.99), biased(0.02), late, one_prompt, swapped, eager, never_ending]
)
def test_quiet_engines_show_the_slightest_damage(damage: Damage) -> None:
    """In float32 every kind of damage is gross, far below what bf16 could show."""
    result = judged(0, Setup(noise=QUIET, null_passes=1, damage=damage, cycles=1))
    assert result.verdict is Verdict.CORRUPT


def controlled(damage: Damage, *, healed_by: set[Control], caches: tuple[CacheCondition, ...]) -> CellResult:
    """Judge an engine that was damaged, asked every control, and healed by some of them."""
    setup = Setup(damage=damage, damaged_caches=caches)
    engine = Engine(random=np.random.default_rng(11), setup=setup)
    recording = engine.recording()
    controls = [
        engine.run(
            Role.CONTROL,
            CacheCondition.WARM if control is Control.RESET_PREFIX_CACHE else CacheCondition.COLD,
            cycle=2,
            damage=None if control in healed_by else damage,
            control=control,
        )
        for control in (Control.FRESH_SALT, Control.RESET_PREFIX_CACHE, Control.RELOAD_WEIGHTS)
    ]
    return judge(replace(recording, passes=(*recording.passes, *controls)))


def test_noise_does_not_hide_what_heals() -> None:
    """Controls are judged by the same noise: what heals holds as a whole, though its tokens differ."""
    both = (CacheCondition.WARM, CacheCondition.COLD)
    result = controlled(scaled(0.95), healed_by={Control.RELOAD_WEIGHTS}, caches=both)
    assert result.cause is Cause.LOST_WEIGHTS
    healed = {outcome.control: outcome.healed == outcome.asked for outcome in result.controls}
    assert healed == {"fresh_salt": False, "reset_prefix_cache": False, "reload_weights": True}


def test_noise_does_not_hide_what_does_not_heal() -> None:
    """If no control heals, none is believed to."""
    both = (CacheCondition.WARM, CacheCondition.COLD)
    result = controlled(scaled(0.95), healed_by=set(), caches=both)
    assert result.cause is Cause.DECODE_PATH
    assert all(outcome.healed < outcome.asked / 4 for outcome in result.controls)


@pytest.mark.parametrize(
    ("noise", "null_passes", "is_known"), [(QUIET, 1, True), (BF16, 1, False), (BF16, 4, True)]
)
def test_one_null_pass_tells_the_noise_of_a_quiet_engine_and_four_that_of_any(
    noise: Noise,
    null_passes: int,
    is_known: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What is judged later plays no part: the question is asked before the first transition."""
    recording = simulate(3, Setup(noise=noise, null_passes=null_passes, cycles=0))

    assert noise_is_known(recording) is is_known
