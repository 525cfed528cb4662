"""An engine that answers differently under conditions that must make no difference, before it ever slept."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.check.diagnosis import inconclusive
from harness.check.result import Cause, Verdict
from harness.history.passes import Method, Role
from tests.check.stories import (
    COLD,
    REHIT,
    WARM,
    Change,
    Story,
    both,
    clean_story,
    flip,
    garbage,
    scaled,
    shifted,
    updated,
)

COARSE = {"model_config": {"dtype": "torch.bfloat16"}}


def wrong_when_read(change: Change, *, prompts: int = 4, passes: int = 1) -> Story:
    """Every answer whose prompt was read from the prefix cache is another one, from the start."""
    wrong = dict.fromkeys(Story(prompts=prompts).names, change)
    return Story(prompts=prompts).baseline(cached=wrong).null(cached=wrong, passes=passes)


def test_a_healthy_engine_agrees_with_itself() -> None:
    """Nothing is said of one that answers alike throughout."""
    assert clean_story().evidence().disagreements == ()


def test_hits_that_are_wrong_from_the_start_are_never_clean() -> None:
    """Re-hits agree with each other across the sleep, but not with what was computed before it."""
    story = wrong_when_read(flip(0)).cycle()
    story.read_again(dict.fromkeys(story.names, flip(0)))
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.INCONCLUSIVE, None)
    assert result.reason.startswith(
        "the engine disagreed with itself before anything was done to it: 4 of 4 prompts are answered "
        "differently when read from the prefix cache than when computed (p"
    )
    assert result.reason.endswith("try --no-enable-prefix-caching; this is not about sleep")
    assert "float32" not in result.reason


def test_block_hashes_that_collide_from_the_start() -> None:
    """Some prompts read blocks of others before anything slept; float32 is no advice where it is in use."""
    read = dict.fromkeys(["p1", "p2"], both(garbage(), updated(cached_tokens=48)))
    story = Story().baseline(read, caches=(WARM, REHIT))
    story.ask(Role.BASELINE, COLD).null(cached=read).cycle()
    result = story.judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "2 of 4 prompts are answered differently when read from the prefix cache" in result.reason
    assert "float32" not in result.reason


def test_noise_that_follows_from_a_disagreement_is_not_told() -> None:
    """Advice against noise would mislead: asking more often does not make wrong hits right."""
    story = wrong_when_read(flip(0)).baseline(caches=(WARM,)).cycle().finish()
    assert len(inconclusive.find(story.evidence())) == 1


def test_damage_across_the_sleep_stays_corrupt() -> None:
    """What was computed before the sleep holds for what is computed after it, whatever hits are."""
    story = wrong_when_read(flip(0)).cycle(cold={"p0": garbage(), "p1": garbage()})
    result = story.judged()
    assert result.verdict is Verdict.CORRUPT
    assert "the engine disagreed with itself before anything was done to it" in result.reason


def test_a_single_odd_answer_is_no_disagreement() -> None:
    """It may have been a hiccup; the tests of noise judge it."""
    story = Story().baseline(cached={"p0": flip(0)}).null()
    assert story.evidence().disagreements == ()


def test_alone_against_in_a_batch() -> None:
    """Answers that differ with the number of requests at a time are named with it."""
    story = Story().baseline()
    story.ask(Role.BASELINE, COLD, concurrency=1, changes=dict.fromkeys(story.names, flip(2)))
    [found] = story.null().evidence().disagreements
    assert (found.one, found.other, found.prompts) == ("4 at a time", "one at a time", 4)


def test_scored_against_decoded() -> None:
    """The log-probabilities of prefill are those of decoding."""
    story = Story().baseline()
    story.ask(Role.BASELINE, COLD, method=Method.SCORED, changes=dict.fromkeys(story.names, shifted(0.5, 0)))
    [found] = story.null().evidence().disagreements
    assert (found.one, found.other) == ("when scored", "when decoded")


def test_a_new_salt_against_a_used_one() -> None:
    """What is computed does not depend on the salt."""
    story = Story()
    story.baseline(caches=(WARM,)).ask(Role.BASELINE, COLD, changes=dict.fromkeys(story.names, flip(1)))
    [found] = story.null(dict.fromkeys(story.names, flip(1)), cached={}).evidence().disagreements[-1:]
    assert found.one in {"under a new cache salt", "when read from the prefix cache"}


@pytest.mark.parametrize(("told", "disagrees"), [({}, True), (COARSE, False)])
def test_rounding_is_no_disagreement(*, told: Mapping[str, Mapping[str, str]], disagrees: bool) -> None:
    """A tenth of a nat between two conditions is damage in float32, and rounding in bfloat16."""
    story = wrong_when_read(shifted(0.3, 0)).configured(**told)
    assert bool(story.evidence().disagreements) is disagrees


def test_what_is_too_small_in_one_answer_shows_in_all_together() -> None:
    """Where rounding is coarse, answers that all lie off by far more than noise disagree all the same."""
    story = wrong_when_read(scaled(1.15), prompts=12, passes=4).configured(**COARSE)
    [found] = story.evidence().disagreements
    assert found.one == "when read from the prefix cache"


def test_a_quantised_cache_may_round_what_is_read() -> None:
    """Kernels that compute a prompt from exact keys and values read rounded ones from the cache."""
    story = Story(extra_args=("--kv-cache-dtype", "fp8"))
    story.baseline(cached=dict.fromkeys(story.names, flip(0)))
    assert story.null().evidence().disagreements == ()


def test_attribution_is_not_asked() -> None:
    """An inconclusive cell names no cause."""
    assert wrong_when_read(flip(0)).cycle().judged().cause is not Cause.UNKNOWN
