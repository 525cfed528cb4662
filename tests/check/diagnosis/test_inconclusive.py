"""What keeps a recording from being called clean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.check.diagnosis import inconclusive, unread_cache
from harness.check.evidence import Evidence
from harness.check.result import Verdict
from harness.history.events import CellUnavailable
from harness.history.passes import Role
from tests.check.stories import WARM, Story, clean_story, failing, garbage, shifted, updated


def sentences(story: Story) -> tuple[str, ...]:
    """What keeps a story from a verdict, in words."""
    return tuple(each.sentence for each in inconclusive.find(story.evidence()))


def reasons(story: Story) -> tuple[str, ...]:
    """Every obstacle of a story told to its end; the cell must then be inconclusive, if there is any."""
    result = story.judged()
    found = sentences(story)
    assert result.verdict is (Verdict.INCONCLUSIVE if found else Verdict.CLEAN)
    assert result.reason == "; ".join(found) or not found
    assert not found or (result.grounds and (result.grounds.what, *result.grounds.further) == found)
    return found


def test_a_clean_story_has_none() -> None:
    """Nothing stands in the way of a clean verdict on a healthy story."""
    assert reasons(clean_story()) == ()


def test_a_recording_that_breaks_off() -> None:
    """Without the end of the script there is no clean verdict."""
    story = clean_story()
    assert sentences(story) == ("the recording stops before the end of the script: run the cell again",)


def test_a_missing_answer() -> None:
    """An answer that was never recorded may have been the damaged one."""
    story = clean_story()
    story.events = [event for event in story.events if getattr(event, "prompt", "") != "p1"]
    [reason] = reasons(story)
    assert reason == ("9 answers missing from the recording, first p1 (baseline, warm): run the cell again")


def test_no_baseline() -> None:
    """Answers after a transition alone say nothing."""
    assert "there is no baseline to compare with" in reasons(Story().sleep().wake().probe())[0]


def test_a_baseline_that_times_out() -> None:
    """A server too slow before anything was done to it cannot be judged."""
    story = Story().baseline({"p1": failing("timeout")}).null().cycle()
    assert any(
        "3 requests were not answered in time, before anything was tested" in each for each in reasons(story)
    )


def test_a_null_transition_that_times_out() -> None:
    """The same holds for a request after a null transition."""
    story = Story().baseline().null({"p1": failing("timeout")}).cycle()
    assert any("2 requests were not answered in time" in each for each in reasons(story))


def test_an_unsound_baseline() -> None:
    """A baseline that contradicts itself is no reference."""
    [reason] = reasons(clean_story_with_baseline(updated_tokens=True))
    assert reason.startswith("the baseline itself is unsound (p1, baseline, warm: 49 prompt tokens sent")


def clean_story_with_baseline(*, updated_tokens: bool) -> Story:
    """A story whose every p1 answer has a wrong prompt count, which therefore never changes."""
    wrong = {"p1": updated(prompt_tokens=7)} if updated_tokens else {}
    return Story().baseline(wrong).null(wrong).sleep().wake().probe(1, warm=wrong, cold=wrong)


def test_no_counterpart() -> None:
    """Answers at a concurrency the baseline never had cannot be compared."""
    story = Story().baseline().null().cycle().probe(concurrency=9)
    [reason] = reasons(story)
    assert reason == (
        "8 answers without a counterpart in the baseline (p0, cycle 1, warm): "
        "probe the baseline at the same concurrency"
    )


def test_no_transition() -> None:
    """A script of probes alone tests nothing."""
    assert "the script contains no transition, so nothing was tested" in reasons(Story().baseline().null())


def test_no_probe_after_the_transition() -> None:
    """A transition nobody looks at is not tested."""
    story = Story().baseline().null().sleep().wake()
    assert reasons(story) == ("no probe follows a transition: add one to the script",)


def test_an_endpoint_the_server_lacks() -> None:
    """Without the sleep endpoint nothing slept."""
    story = Story().baseline().null().sleep(status=404, keeps_cache=True).wake().probe()
    [reason] = reasons(story)
    assert reason == (
        "the server lacks what the script needs (POST /sleep answered 404): "
        "start it with VLLM_SERVER_DEV_MODE=1"
    )


def test_noise_that_was_seen_too_seldom() -> None:
    """One null answer a prompt is not enough to tell noise from damage."""
    story = Story().baseline().null({"p0": garbage(3)}).cycle()
    assert reasons(story)[0] == (
        "the noise is not known well enough: 8 of 8 answers cannot be compared with "
        "4 null answers under the same conditions; give null_transition 4 or more passes, ask for warm, "
        "rehit and cold evidence, or lower the concurrency to 1"
    )


def test_differences_without_a_measure_of_noise() -> None:
    """A difference means nothing before the noise was measured."""
    story = Story().baseline().cycle(1, warm={"p0": garbage(3), "p1": shifted()})
    [reason] = reasons(story)
    assert reason == (
        "2 of 8 answers differ, but the noise was not measured: "
        "add a null_transition before the first transition"
    )


def test_equal_answers_need_no_measure_of_noise() -> None:
    """Where nothing differs, there is no noise to tell from damage."""
    assert reasons(Story().baseline().cycle().probe()) == ()


@pytest.mark.parametrize("caching", [True, False])
def test_a_cache_that_never_hit(*, caching: bool) -> None:
    """With prefix caching on, a run without a cached read could not have shown a stale one."""
    never = dict.fromkeys(["p0", "p1", "p2", "p3"], updated(cached_tokens=0))
    story = Story(prefix_caching=caching).baseline(never).null(never).cycle()
    found = reasons(story)
    assert len(found) == (1 if caching else 0)
    assert all("no prompt was ever served from the prefix cache" in each for each in found)


def test_a_cache_nobody_can_see() -> None:
    """A server that tells neither cached tokens nor hits leaves the question open."""
    [reason] = reasons(Story(tells_cached_tokens=False).baseline().null().cycle())
    assert reason.endswith("start the server with --enable-prompt-tokens-details")


def test_a_cache_the_metrics_show() -> None:
    """Hits counted in the metrics show that the cache was read."""
    story = Story(tells_cached_tokens=False).baseline().null().cycle()
    last = next(i for i, event in reversed(list(enumerate(story.events))) if event.kind == "observation")
    story.events[last] = story.events[last].model_copy(update={"counters": {"prefix_cache_hits": 96.0}})
    assert reasons(story) == ()


@pytest.mark.parametrize(
    ("args", "on"),
    [
        ((), False),
        (("--enable-prefix-caching",), True),
        (("--no-enable-prefix-caching",), False),
        (("--no-enable-prefix-caching", "--enable-prefix-caching"), True),
        (("--enable-prefix-caching", "--no-enable-prefix-caching", "--enforce-eager"), False),
    ],
)
def test_flags_that_turn_prefix_caching_on(args: tuple[str, ...], *, on: bool) -> None:
    """As on a command line, the last word counts."""
    assert unread_cache.prefix_caching_is_on(args) is on


def test_obstacles_add_up() -> None:
    """Every reason is told, so that one further run can settle them all."""
    story = Story().baseline({"p1": updated(prompt_tokens=7)}).null({"p0": garbage(3)})
    story.ask(Role.NULL, WARM)
    assert len(reasons(story)) == 2


def test_an_endpoint_the_server_lacks_is_named_once() -> None:
    """A server without the endpoint refuses in every cycle; the reader needs to be told once."""
    story = Story().baseline().null()
    for _ in range(3):
        story.sleep(status=404, keeps_cache=True).wake().probe()
    assert sum(reason.count("POST /sleep answered 404") for reason in reasons(story)) == 1


def test_a_release_that_lacks_what_the_script_needs() -> None:
    """Nothing else is said where the script was never begun."""
    story = Story()
    story.tell(CellUnavailable(t=1, lacking=("sleep", "LoRA"), vllm_version="0.5.0"))
    assert sentences(story) == ("not available in vLLM 0.5.0: sleep, LoRA",)


def test_what_a_baseline_lacks_is_told_in_full() -> None:
    """Each reason is a whole sentence with what would settle it."""
    assert reasons(Story().sleep().wake().probe())[0] == (
        "there is no baseline to compare with: begin the script with a probe the server can answer"
    )
    late = reasons(Story().baseline({"p1": failing("timeout")}).null().cycle())
    assert late[0] == (
        "3 requests were not answered in time, before anything was tested: raise the answer deadline "
        "or use a faster server"
    )


def test_a_baseline_request_that_fails_otherwise_is_not_late() -> None:
    """A server error is unsound, not slow."""
    found = reasons(Story().baseline({"p1": failing("http", 500)}).null().cycle())
    assert not any("not answered in time" in each for each in found)
    assert found[0] == (
        "the baseline itself is unsound (p1, baseline, warm: no answer: no answer came): fix that first"
    )


def test_a_baseline_that_ends_in_two_ways() -> None:
    """The same tokens before any transition cannot end once by length and once otherwise."""
    story = Story().baseline().null({"p1": updated(finish_reason="repetition")}).cycle()
    assert (
        "the baseline itself is unsound (p1, null transition, warm: the same tokens have two different "
        "endings): fix that first"
    ) in sentences(story.finish())


def test_every_endpoint_the_server_lacks_is_named_once() -> None:
    """In the order of the script, however often it was asked for."""
    story = Story().baseline().null().sleep(status=404, keeps_cache=True).wake(status=404).probe()
    story.sleep(status=404, keeps_cache=True).wake(status=404).probe(2)
    [reason] = reasons(story)
    assert reason == (
        "the server lacks what the script needs (POST /sleep answered 404, POST /wake_up answered 404): "
        "start it with VLLM_SERVER_DEV_MODE=1"
    )


def test_a_cache_that_could_not_alarm_is_told_in_full() -> None:
    """What could not have shown, and what would let it show."""
    never = dict.fromkeys(["p0", "p1", "p2", "p3"], updated(cached_tokens=0))
    [unread] = reasons(Story().baseline(never).null(never).cycle())
    assert unread == (
        "no prompt was ever served from the prefix cache, so a stale one would not have been noticed: the "
        "engine keeps none, or they were displaced before they could be read again: ask fewer prompts, or "
        "give the engine a larger KV cache"
    )
    [untold] = reasons(Story(tells_cached_tokens=False).baseline().null().cycle())
    assert untold == (
        "nothing shows that the prefix cache was ever read, so a stale one would not have been noticed: "
        "start the server with --enable-prompt-tokens-details"
    )


@pytest.mark.parametrize(("hits", "seen"), [(0.0, False), (1.0, True)])
def test_a_single_hit_shows_that_the_cache_was_read(*, hits: float, seen: bool) -> None:
    """One hit in any observation is enough; a counter at zero is not."""
    story = Story(tells_cached_tokens=False).baseline().null().cycle()
    first = next(i for i, event in enumerate(story.events) if event.kind == "observation")
    story.events[first] = story.events[first].model_copy(update={"counters": {"prefix_cache_hits": hits}})
    assert (reasons(story) == ()) is seen


@pytest.mark.parametrize(
    ("blocks", "block_size", "advice"),
    [
        (
            8,
            16,
            "(there is room for 128 tokens, the prompts and their answers take up to 292): ask fewer prompts",
        ),
        (800, 16, "the cache has room for all, so the engine keeps none"),
        (800, 64, "use prompts longer than a KV block"),
    ],
)
def test_why_the_cache_was_never_read(blocks: int, block_size: int, advice: str) -> None:
    """Too small a cache, one that keeps nothing, and prompts too short for it are told apart."""
    never = dict.fromkeys(["p0", "p1", "p2", "p3"], updated(cached_tokens=0))
    story = Story().baseline(never).null(never).cycle()
    story.configured(cache_config={"num_gpu_blocks": blocks})
    story.events = [
        event.model_copy(update={"block_size": block_size}) if event.kind == "prompts_prepared" else event
        for event in story.events
    ]
    [reason] = reasons(story)
    assert advice in reason


def test_prompts_too_short_for_a_block_are_told_where_nothing_else_is() -> None:
    """A server that tells no cached tokens need not be asked for them: no prompt could have been cached."""
    story = Story(tells_cached_tokens=False).baseline().null().cycle()
    story.events = [
        event.model_copy(update={"block_size": 128}) if event.kind == "prompts_prepared" else event
        for event in story.events
    ]
    [reason] = reasons(story)
    assert reason.endswith("use prompts longer than a KV block of 128 tokens")


@pytest.mark.parametrize(("hits", "seen"), [((8.0, 8.0), False), ((8.0, 16.0), True)])
def test_hits_after_the_transition_are_asked_for(*, hits: tuple[float, float], seen: bool) -> None:
    """Where cached tokens are not told, the engine must have counted hits when it was asked again."""
    story = Story(tells_cached_tokens=False).baseline().null().cycle().read_again()
    step = next(e.step for e in reversed(story.events) if e.kind == "pass_started")
    for moment, counted in zip(("before", "after"), hits, strict=True):
        story.observe(step, moment)
        story.events[-1] = story.events[-1].model_copy(update={"counters": {"prefix_cache_hits": counted}})
    assert (reasons(story) == ()) is seen


def test_a_state_that_is_told_no_more_confirms_nothing() -> None:
    """A server that told whether it sleeps, and then does not, may not have slept at all."""
    story = Story().baseline().null().sleep().wake(asleep=None).probe()
    [why] = reasons(story)
    assert why.startswith(
        "nothing confirmed wake up: the server had told whether it sleeps, and then told it"
    )


def test_a_release_that_never_tells_its_state_is_taken_at_its_word() -> None:
    """Nothing was told before either, so that nothing is missing."""
    recording = clean_story().finish().evidence().recording
    silent = tuple(seen.model_copy(update={"is_sleeping": None}) for seen in recording.observations)
    assert inconclusive.find(Evidence(replace(recording, observations=silent))) == ()
