"""What stays damaged until something heals it, and what comes and goes by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from harness.check import judge
from harness.check.result import Cause, CellResult, Verdict
from harness.history.passes import CacheCondition, Control, Role
from tests.check.simulation import Damage, Engine, Floats, Setup
from tests.check.stories import Change, Story, both, garbage, shifted

FOUR = ["p0", "p1", "p2", "p3"]
ALL = [*FOUR, "p4"]


def damage(names: list[str], change: Change | None = None) -> dict[str, Change]:
    """The same damage to several prompts, by default to whole answers."""
    return dict.fromkeys(names, change or garbage(0))


def told(**damaged: list[str]) -> Story:
    """A transition after which these prompts are answered wrongly, warm or cold."""
    changes = {cache: damage(names) for cache, names in damaged.items()}
    return Story().baseline().null().checksums({"w": "1"}).cycle(1, **changes).checksums({"w": "1"})


def with_every_control(story: Story, *, again: dict[str, Change] | None = None) -> CellResult:
    """Controls in their order, each of which finds all answers right; ``again`` is damaged before each."""
    for control in (Control.FRESH_SALT, Control.RESET_PREFIX_CACHE, Control.RELOAD_WEIGHTS):
        story.control(Control.ASKED_AGAIN, again)
        story.control(control)
    return story.judged()


def test_what_was_right_before_each_control_was_healed_by_none() -> None:
    """Two odd answers of eight, right when asked again: nothing that was done later heals them."""
    result = with_every_control(told(warm=["p1"], cold=["p3"]))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.INTERMITTENT)
    assert result.reason.endswith(
        "intermittent: 2 of 8 answers (25%) are damaged, and 3 of 3 were right when asked again as they had "
        "been, with nothing done in between"
    )


def test_a_history_without_questions_asked_again_accuses_no_weights_that_were_right_before() -> None:
    """Salt and reset had healed already when the weights were loaded again."""
    story = told(cold=FOUR)
    for control in (Control.FRESH_SALT, Control.UNSEEN_PROMPTS, Control.RESET_PREFIX_CACHE):
        story.control(control)
    result = story.control(Control.RELOAD_WEIGHTS).judged()
    assert result.cause is Cause.INTERMITTENT
    assert "4 of 4 were right when asked again" in result.reason


def test_weights_that_were_still_lost_just_before_are_healed_by_loading_them() -> None:
    """Damage that is there each time it is asked for stays until the reload."""
    story = Story().baseline().null().sleep().wake().probe(1, warm=damage(ALL), cold=damage(ALL))
    story.asked_again(damage(FOUR)).control(Control.FRESH_SALT, damage(ALL))
    story.asked_again(damage(FOUR)).control(Control.RESET_PREFIX_CACHE, damage(ALL))
    result = story.asked_again(damage(FOUR)).control(Control.RELOAD_WEIGHTS).judged()
    assert result.cause is Cause.LOST_WEIGHTS
    assert result.reason.endswith("lost weights: loading the weights again heals 4 of 4")


def test_a_reload_after_which_all_is_right_proves_nothing_if_all_was_right_before() -> None:
    """Whatever made the answers right did so before the weights were loaded again."""
    story = Story().baseline().null().sleep().wake().probe(1, warm=damage(ALL), cold=damage(ALL))
    story.asked_again(damage(FOUR)).control(Control.FRESH_SALT, damage(ALL))
    story.control(Control.RESET_PREFIX_CACHE, damage(ALL))
    result = story.control(Control.ASKED_AGAIN, asked=FOUR).control(Control.RELOAD_WEIGHTS).judged()
    assert result.cause is not Cause.LOST_WEIGHTS


def test_cached_reads_that_were_right_before_the_reset_accuse_no_prefix_cache() -> None:
    """A stale block stays stale until it is forgotten."""
    story = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=damage(FOUR))
    assert with_every_control(story).cause is Cause.INTERMITTENT
    story = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=damage(FOUR))
    assert with_every_control(story, again=damage(FOUR)).cause is Cause.STALE_PREFIX_CACHE


def test_a_control_of_few_answers_may_be_right_by_chance() -> None:
    """Half of the damage was gone just before: that two of two are right then tells nothing."""
    for asked, cause in ((FOUR, Cause.STALE_PREFIX_CACHE), (["p0", "p1"], Cause.INTERMITTENT)):
        story = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=damage(asked))
        story.control(Control.ASKED_AGAIN, damage(asked[1:]), asked=asked).control(
            Control.FRESH_SALT, asked=asked
        )
        assert story.judged().cause is cause


def test_checksums_accuse_weights_whatever_comes_and_goes() -> None:
    """They are no answers, so chance has no part in them."""
    story = Story().baseline().null().checksums({"w": "1"}).cycle(1, warm=damage(["p0"]), cold=damage(["p1"]))
    result = with_every_control(story.checksums({"w": "2"}))
    assert result.cause is Cause.LOST_WEIGHTS
    assert "it comes and goes: 2 of 8 answers (25%) are damaged" in result.reason


def test_what_comes_again_often_enough_is_told_by_what_it_leaves_intact() -> None:
    """Rows mixed up in some steps: prompts are computed rightly, and half of the damage comes again."""
    bad = damage(ALL, garbage(1))
    story = Story().baseline().null().checksums({"w": "1"}).cycle(1, warm=bad, cold=bad).checksums({"w": "1"})
    story.control(Control.ASKED_AGAIN, damage(["p0", "p1"], garbage(1)))
    story.control(Control.FRESH_SALT, damage(["p0"], garbage(1)))
    story.control(Control.RELOAD_WEIGHTS, damage(["p2"], garbage(1)))
    result = story.judged()
    assert result.cause is Cause.DECODE_PATH
    assert (
        "8 of 8 answers computed from the prompt begin as before; it comes and goes: 8 of 8" in result.reason
    )


def test_rare_damage_that_comes_again_by_chance_accuses_nobody() -> None:
    """One of two is damaged again, as any other request may be."""
    bad = garbage(1)
    story = Story(prompts=12).baseline().null().checksums({"w": "1"})
    story.cycle(1, warm={"p0": bad, "p1": bad}).checksums({"w": "1"})
    story.control(Control.ASKED_AGAIN, {"p0": bad}, asked=["p0", "p1"])
    story.control(Control.FRESH_SALT, {"p1": bad}, asked=["p0", "p1"])
    result = story.control(Control.RELOAD_WEIGHTS, {"p1": bad}, asked=["p0", "p1"]).judged()
    assert result.cause is Cause.INTERMITTENT
    assert "2 of 24 answers (8%) are damaged" in result.reason


def test_rare_damage_that_comes_again_where_it_was_is_told_by_what_it_leaves_intact() -> None:
    """The same two each time, and no others: that is no chance."""
    bad = garbage(1)
    again = {"p0": bad, "p1": bad}
    story = Story(prompts=12).baseline().null().checksums({"w": "1"}).cycle(1, warm={**again, "p2": bad})
    story.checksums({"w": "1"}).control(Control.ASKED_AGAIN, again, asked=["p0", "p1", "p2"])
    story.control(Control.FRESH_SALT, again, asked=["p0", "p1", "p2"])
    story.control(Control.ASKED_AGAIN, again, asked=["p0", "p1", "p2"])
    result = story.control(Control.RELOAD_WEIGHTS, again, asked=["p0", "p1", "p2"]).judged()
    assert result.cause is Cause.DECODE_PATH


def test_buffers_are_not_accused_by_what_comes_and_goes() -> None:
    """What is lost stays lost: damage to whole answers that is gone the next time is not in buffers."""
    story = told(warm=FOUR, cold=FOUR)
    story.control(Control.ASKED_AGAIN, damage(["p0", "p1"])).control(Control.FRESH_SALT, damage(["p0"]))
    story.control(Control.RELOAD_WEIGHTS, damage(["p2"]))
    assert story.judged().cause is Cause.INTERMITTENT


def test_other_conditions_are_no_repetition() -> None:
    """Answers that were damaged cold do not come and go because they are right when asked again warm."""
    story = told(cold=FOUR).control(Control.ASKED_AGAIN).control(Control.FRESH_SALT, damage(FOUR))
    assert story.control(Control.RELOAD_WEIGHTS).judged().cause is Cause.LOST_WEIGHTS


def test_what_noise_may_hide_is_not_said_to_be_gone() -> None:
    """Where answers differ by themselves, one that is hardly off may still bear the damage."""
    noise = damage(FOUR, shifted(0.02))
    story = Story().baseline().null(noise, passes=4).null(damage(FOUR, shifted(0.01)))
    story.cycle(1, cold=damage(FOUR)).control(Control.ASKED_AGAIN)
    story.ask(
        Role.CONTROL,
        CacheCondition.COLD,
        changes=damage(FOUR, shifted(0.05)),
        control=Control.ASKED_AGAIN,
    )
    assert story.control(Control.RELOAD_WEIGHTS).judged().cause is not Cause.INTERMITTENT


def read_under_any_salt(change: Change) -> Change:
    """The same change to an answer that was read from the cache although its salt is new."""
    return both(change, lambda answer: answer.model_copy(update={"cached_tokens": answer.prompt_tokens}))


def mixed_salts(*, cold: dict[str, Change], tells: bool = True) -> Story:
    """Stale blocks that a new salt does not keep away, until the cache is reset."""
    story = Story(tells_cached_tokens=tells).baseline().null().sleep(keeps_cache=True).wake()
    story.probe(1, warm=damage(ALL), cold=cold).control(Control.FRESH_SALT, cold)
    return story.control(Control.UNSEEN_PROMPTS, cold).control(Control.RESET_PREFIX_CACHE)


def test_what_only_a_reset_heals_is_stale_though_a_salt_no_longer_separates() -> None:
    """The prompts were read from the cache under a salt never used before, or nobody says otherwise."""
    story = mixed_salts(cold=damage(ALL, read_under_any_salt(garbage(0))))
    result = story.judged()
    assert result.cause is Cause.STALE_PREFIX_CACHE
    assert (
        "stale prefix cache: a cache salt no longer keeps prompts apart; 8 of 8 damaged answers read prompt "
        "tokens from the cache; a fresh cache salt heals 0 of 4; resetting the prefix cache heals 4 of 4"
    ) in result.reason
    assert mixed_salts(cold=damage(ALL), tells=False).judged().cause is Cause.STALE_PREFIX_CACHE


def test_what_was_computed_is_not_stale_though_a_reset_came_before_it_was_right() -> None:
    """The engine says that nothing was read under the new salt, so nothing stale was."""
    assert mixed_salts(cold=damage(ALL)).judged().cause is not Cause.STALE_PREFIX_CACHE


class NowAndThen:
    """Damage to one request in ``one_in``, whatever it asks: its logits are turned upside down."""

    def __init__(self, one_in: int) -> None:
        self._share = 1 / one_in

    def __call__(
        self, logits: Floats, _prompts: npt.NDArray[np.int64], position: int, random: np.random.Generator
    ) -> Floats:
        """Choose the requests of a pass at its first token."""
        if position == 0:
            self._hit = random.random(len(logits)) < self._share
        logits[self._hit] *= -1.0
        return logits


def upside_down(
    logits: Floats, _prompts: npt.NDArray[np.int64], _position: int, _random: np.random.Generator
) -> Floats:
    """Damage to every request, for good."""
    return -logits


def noisy(damage: Damage, *, seed: int, healed_by_the_reload: bool) -> CellResult:
    """An engine whose answers differ by themselves, damaged after the transition, asked as cells ask."""
    engine = Engine(random=np.random.default_rng(seed), setup=Setup(tokens=48, damage=damage))
    recording = engine.recording()
    controls = [
        engine.run(
            Role.CONTROL,
            CacheCondition.WARM if control is Control.RESET_PREFIX_CACHE else CacheCondition.COLD,
            cycle=2,
            damage=None if control is Control.RELOAD_WEIGHTS and healed_by_the_reload else damage,
            control=control,
        )
        for healing in (Control.FRESH_SALT, Control.RESET_PREFIX_CACHE, Control.RELOAD_WEIGHTS)
        for control in (Control.ASKED_AGAIN, healing)
    ]
    return judge(replace(recording, passes=(*recording.passes, *controls)))


@pytest.mark.parametrize("seed", range(4))
def test_chance_heals_nothing_in_a_noisy_engine_either(seed: int) -> None:
    """One request in twelve is damaged, before every control and after it: no class is accused."""
    result = noisy(NowAndThen(12), seed=seed, healed_by_the_reload=False)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.INTERMITTENT), result.reason


def test_what_stays_until_the_reload_is_healed_by_it_in_a_noisy_engine_too() -> None:
    """Noise does not make lasting damage come and go."""
    result = noisy(upside_down, seed=1, healed_by_the_reload=True)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS), result.reason
