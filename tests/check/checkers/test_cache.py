"""What the prefix cache may still hold after a sleep."""

from __future__ import annotations

import pytest

from harness.check.checkers import cache
from harness.check.result import Cause, Strength, Verdict
from harness.history.passes import Control, Prompt, Role
from tests.check.stories import COLD, REHIT, WARM, Story, clean_story, garbage, updated


def hashes_kept(**options: object) -> Story:
    """A cell whose prefix cache outlives a level-1 sleep."""
    return Story(**options).baseline().null().sleep(keeps_cache=True).wake().probe()  # type: ignore[arg-type] # test shorthand


def test_a_healthy_cache_is_empty_after_a_sleep() -> None:
    """Nothing is found when the first warm pass after a sleep is computed."""
    assert list(cache.check(clean_story().evidence())) == []


def test_hashes_that_outlive_their_blocks_are_found() -> None:
    """Cached tokens in the first warm pass after a sleep are proof, though every answer holds."""
    findings = list(cache.check(hashes_kept().evidence()))
    assert [finding.prompt for finding in findings] == ["p0", "p1", "p2", "p3"]
    assert findings[0].message == (
        "p0, cycle 1, warm: 48 prompt tokens came from the prefix cache although the sleep before had "
        "discarded the KV cache"
    )
    assert findings[0].evidence == {"cached_tokens": 48, "shared_with_other_prompts": 0}
    assert {finding.strength for finding in findings} == {Strength.PROOF}
    assert findings[0].cycle == 1
    assert findings[0].checker == "cache"


def test_a_second_warm_pass_may_be_served() -> None:
    """What an earlier warm pass after the sleep has put there may be read."""
    story = Story().baseline().null().cycle(1).probe(1)
    assert any(each.reply.cached for each in story.evidence().after)
    assert list(cache.check(story.evidence())) == []


def test_level_zero_keeps_the_cache() -> None:
    """A sleep that only pauses the scheduler must not empty the cache."""
    story = Story().baseline().null().sleep(0).wake().probe()
    assert any(each.reply.cached for each in story.evidence().after)
    assert list(cache.check(story.evidence())) == []


def test_a_refused_sleep_empties_nothing() -> None:
    """A sleep the server did not carry out proves nothing about its cache."""
    story = Story().baseline().null().sleep(status=500, keeps_cache=True).wake().probe()
    assert list(cache.check(story.evidence())) == []


def test_a_call_that_empties_the_cache_is_named() -> None:
    """Not only sleeping empties the cache; the finding says what should have."""
    story = Story().baseline().null()
    step = story._begin("pause")
    story.call(step, "/pause", {})
    findings = list(cache.check(story.probe().evidence()))
    assert [finding.prompt for finding in findings] == ["p0", "p1", "p2", "p3"]
    assert findings[0].message.endswith("although /pause had emptied the cache before")


def test_what_the_base_model_left_is_not_for_an_adapter() -> None:
    """An adapter's blocks are its own: a pass of the base model does not explain its cached tokens."""
    story = Story().asking(reference="base").baseline().null()
    story.load_adapter().asking("x", reference="x").baseline()
    story.sleep().wake().asking(reference="base").probe()
    assert list(cache.check(story.evidence())) == []
    story.asking("x", reference="x", warm=True).probe()
    findings = list(cache.check(story.evidence()))
    assert {finding.prompt for finding in findings} == {"p0", "p1", "p2", "p3"}


def test_every_cycle_is_looked_at() -> None:
    """Each sleep has to empty the cache anew."""
    story = Story().baseline().null().cycle(1).sleep(keeps_cache=True).wake().probe(2)
    findings = list(cache.check(story.evidence()))
    assert {finding.cycle for finding in findings} == {2}
    assert len(findings) == 4


def test_a_fresh_salt_says_nothing() -> None:
    """Cold passes cannot read what other salts have left."""
    story = Story().baseline().null().cycle(cold={"p0": updated(cached_tokens=16)})
    assert list(cache.check(story.evidence())) == []


def test_a_shared_beginning_may_be_served() -> None:
    """Prompts of one pass may share a system prompt: that much is cached rightly, one token more is not."""
    story = Story().baseline()
    recording = story.recording()
    shared = tuple(range(500, 540))
    story.events[2] = story.events[2].model_copy(
        update={
            "prompts": tuple(
                Prompt(id=each.id, text=each.text, token_ids=(*shared, 700 + i, *shared))
                for i, each in enumerate(recording.prompts.values())
            )
        }
    )
    story.sleep().wake().probe(1, warm={"p0": updated(cached_tokens=40), "p1": updated(cached_tokens=41)})
    [finding] = cache.check(story.evidence())
    assert finding.prompt == "p1"
    assert finding.evidence == {"cached_tokens": 41, "shared_with_other_prompts": 40}


def test_blocks_kept_elsewhere_make_it_a_hint() -> None:
    """An engine that offloads KV blocks may bring them back after a sleep."""
    findings = list(cache.check(hashes_kept(extra_args=("--kv-transfer-config", "{}")).evidence()))
    assert {finding.strength for finding in findings} == {Strength.HINT}
    findings = list(cache.check(hashes_kept(extra_args=("--kv-offloading-size=4",)).evidence()))
    assert {finding.strength for finding in findings} == {Strength.HINT}


def test_a_server_that_does_not_tell_is_not_accused() -> None:
    """Without cached tokens there is nothing to find."""
    assert list(cache.check(hashes_kept(tells_cached_tokens=False).evidence())) == []


def test_a_warm_control_counts_as_a_warm_pass() -> None:
    """A control under the cell's own salt fills the cache for what follows."""
    story = Story().baseline().null().sleep().wake().control(Control.RESET_PREFIX_CACHE).probe()
    assert list(cache.check(story.evidence())) == []


@pytest.mark.parametrize("salted", [True, False])
def test_without_salts_a_cold_pass_fills_the_cache_too(*, salted: bool) -> None:
    """Where a cold pass resets the cache for lack of salts, what it computed may be read afterwards."""
    story = Story().baseline().null().sleep().wake()
    story._begin("probe", cycle=1, name="after")
    if not salted:
        story.call(story._step, "/reset_prefix_cache", {})
    story.ask(Role.AFTER, COLD, cycle=1)
    story.ask(Role.AFTER, WARM, cycle=1, changes={"p0": updated(cached_tokens=48)})
    assert len(list(cache.check(story.evidence()))) == (1 if salted else 0)


def test_a_finding_leads_to_its_answer() -> None:
    """The pass it is about is the first warm one after the sleep."""
    story = hashes_kept()
    number = next(each.number for each in story.recording().passes if each.start.role is Role.AFTER)
    assert {finding.pass_number for finding in cache.check(story.evidence())} == {number}


def test_a_pass_before_the_sleep_has_nothing_to_do_with_it() -> None:
    """What earlier passes put into the cache the sleep has thrown away."""
    story = Story().baseline().null().cycle(1).sleep(keeps_cache=True).wake()
    assert len(list(cache.check(story.probe(2).evidence()))) == 4


def resetting(*, path: str = "/reset_prefix_cache", elsewhere: bool = False, late: bool = False) -> int:
    """How many findings a warm pass has after a cold one, with a call around the cold pass."""
    story = Story().baseline().null().sleep().wake()
    story._begin("probe", cycle=1, name="after")
    step = story._step
    if not late:
        story.call("elsewhere" if elsewhere else step, path, {})
    story.ask(Role.AFTER, COLD, cycle=1)
    if late:
        story.call(step, path, {})
    story.ask(Role.AFTER, WARM, cycle=1, changes={"p0": updated(cached_tokens=48)})
    return len(list(cache.check(story.evidence())))


def test_only_its_own_reset_lets_a_cold_pass_fill_the_cache() -> None:
    """Another call, a reset in another step, or one after the pass, says nothing about how it was asked."""
    assert resetting() == 0
    assert resetting(path="/reset_mm_cache") == 1
    assert resetting(elsewhere=True) == 1
    assert resetting(late=True) == 1


def test_the_longest_beginning_shared_with_any_prompt_counts() -> None:
    """Two of the prompts share three tokens, two share five, which are all of one; one shares none."""
    prompts = [
        Prompt(id="a", text="", token_ids=(1, 2, 3, 4)),
        Prompt(id="c", text="", token_ids=(1, 2, 3, 9, 9, 7)),
        Prompt(id="b", text="", token_ids=(1, 2, 3, 9, 9)),
        Prompt(id="d", text="", token_ids=(8,)),
    ]
    assert cache._shared_prefixes(prompts) == {"a": 3, "b": 5, "c": 5, "d": 0}
    assert cache._shared_prefixes(prompts[:1]) == {"a": 0}
    assert cache._shared_prefixes(()) == {}


def test_a_cache_that_is_read_again_after_waking_is_in_use() -> None:
    """Blocks that were cached after the wake-up are read as they were before it."""
    story = clean_story().read_again()
    assert list(cache.unused(story.evidence())) == []
    assert story.judged().verdict is Verdict.CLEAN


def test_a_cache_that_stays_dead_after_waking_is_degraded() -> None:
    """Every answer holds, but what was cached just before is computed anew."""
    story = clean_story()
    story.read_again(dict.fromkeys(story.names, updated(cached_tokens=0)))
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SCHEDULER)
    assert result.reason == (
        "after the transition, rehit: the prefix cache is not used any more: none of 4 prompts asked again "
        "came from it, before the transition 4 did"
    )


def test_a_single_hit_shows_that_the_cache_is_in_use() -> None:
    """Blocks may be displaced; a dead cache has none."""
    story = clean_story().read_again(dict.fromkeys(["p0", "p1", "p2"], updated(cached_tokens=0)))
    assert list(cache.unused(story.evidence())) == []


def test_what_was_never_cached_need_not_be_cached_after_waking() -> None:
    """An arm without a prefix cache, and a cache that was too small before, came back the same."""
    assert (
        list(cache.unused(Story(prefix_caching=False).baseline().null().cycle().read_again().evidence()))
        == []
    )
    displaced = dict.fromkeys(["p0", "p1", "p2"], updated(cached_tokens=0))
    story = Story().baseline(displaced).null(displaced).cycle()
    story.read_again(dict.fromkeys(story.names, updated(cached_tokens=0)))
    assert list(cache.unused(story.evidence())) == []


def test_damage_to_what_was_cached_after_waking_is_corrupt() -> None:
    """A re-hit after the transition is held against those before it, be they of null transitions alone."""
    for caches in ((WARM, REHIT, COLD), (WARM,)):
        story = Story().baseline(caches=caches).null().cycle()
        assert story.read_again().judged().verdict is Verdict.CLEAN
        story = Story().baseline(caches=caches).null().cycle()
        assert story.read_again({"p1": garbage(), "p2": garbage()}).judged().verdict is Verdict.CORRUPT
