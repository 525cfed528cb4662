"""From a recording to the judgement of its cell."""

from __future__ import annotations

import pytest

from harness.check import judge
from harness.check.result import Cause, Lack, Strength, Verdict
from harness.history.passes import Control
from tests.check.stories import (
    Change,
    Story,
    both,
    clean_story,
    empty,
    failing,
    flip,
    garbage,
    loop,
    nearly_tied,
    shifted,
    updated,
)

TWO = {"p0": garbage(), "p3": garbage()}
"""Two damaged answers: one alone would have to come again."""


def test_a_healthy_story_is_clean() -> None:
    """A clean verdict has a bound, no cause, no findings and no witness."""
    result = clean_story(cycles=3).judged()
    assert result.verdict is Verdict.CLEAN
    assert result.cause is None
    assert result.findings == ()
    assert result.witness is None
    assert result.error is None
    assert result.bound is not None
    assert result.bound.comparisons == 4
    assert result.reason == f"all 24 answers equal the baseline; {result.bound.statement}"
    assert result.noise is not None
    assert result.noise.exact


def test_a_clean_verdict_says_how_equal_answers_are() -> None:
    """Rounding errors are told apart from equality to the last bit."""
    rounded = Story().baseline().null().cycle(1, warm={"p0": shifted(1e-5)}).judged()
    assert rounded.verdict is Verdict.CLEAN
    assert rounded.reason.startswith(
        "all 8 answers have the baseline's tokens, and log-probabilities that differ no more than noise "
        "explains; affected prompts < 52.7%, affected requests < 31.2% at 95% (4 prompts compared in "
        "2 passes, none off by 0.004 nat)"
    )
    tie = nearly_tied(position=5, gap=5e-4)
    flipped = {"p0": both(tie, flip(5))}
    usual = {"p0": tie}
    story = Story().baseline(usual).null(usual).sleep().wake().probe(1, warm=flipped, cold=usual)
    assert story.judged().reason.startswith(
        "all 8 answers differ from the baseline no more than noise explains"
    )


def test_the_result_says_what_was_judged() -> None:
    """Cell, scenario, arm, version and runtime are carried over."""
    result = clean_story().judged()
    assert (result.cell, result.scenario, result.arm) == ("scenario/arm", "scenario", "arm")
    assert (result.vllm_version, result.runtime, result.emulated, result.fault) == (
        "0.32.0",
        "process",
        (),
        None,
    )


@pytest.mark.parametrize(
    "change",
    [
        garbage(),
        garbage(23),
        loop(4),
        empty,
        shifted(0.05),
        updated(finish_reason="abort"),
        updated(system_fingerprint="other"),
        updated(completion_tokens=3),
        failing("hang"),
        failing("http", 500),
    ],
)
@pytest.mark.parametrize("when", ["warm", "cold"])
def test_one_damaged_answer_makes_a_cell_corrupt(change: Change, when: str) -> None:
    """Any way one answer can be wrong, and wrong again, is corruption, with a witness and a cause."""
    story = Story().baseline().null().cycle(1)
    story.cycle(2, **{when: {"p1": change}}).asked_again({"p1": change})
    result = story.judged()
    assert result.verdict is Verdict.CORRUPT
    assert result.cause is not None
    assert result.witness is not None
    assert result.witness.prompt == "p1"
    assert result.bound is None
    assert "answers to 1 of 4 prompts changed" in result.reason


@pytest.mark.parametrize("again", [False, True])
def test_one_odd_answer_that_stays_alone_is_inconclusive(*, again: bool) -> None:
    """Nothing says how often one answer of many is odd by itself: it neither accuses nor acquits."""
    story = Story().baseline().null().cycle(1).cycle(2, warm={"p1": garbage()})
    if again:
        story.asked_again({"p1": updated()})
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.INCONCLUSIVE, None)
    when = "it was right when it was asked again" if again else "it was not asked again"
    assert result.reason == (
        "a single answer of 16 is not the baseline's (p1, cycle 2, warm), no other joins it, and "
        f"{when}: run the cell again, with more cycles"
    )
    assert {finding.strength for finding in result.findings} == {Strength.HINT}


def test_a_reason_is_also_told_in_parts() -> None:
    """What was found, and what speaks for the cause, one observation each; a doubt is named by its kind."""
    story = clean_story(cycles=0).sleep(keeps_cache=True).wake().probe(warm=TWO)
    result = story.control(Control.FRESH_SALT, asked=list(TWO)).judged()
    assert result.grounds is not None
    assert result.grounds.because
    told = f"{result.grounds.what}; {result.cause}: {'; '.join(result.grounds.because)}"
    assert result.reason == told
    doubtful = Story().sleep().wake().probe().judged()
    assert doubtful.grounds
    assert doubtful.grounds.lacks[0] is Lack.BASELINE


def test_an_odd_answer_in_each_of_two_cycles_is_corrupt() -> None:
    """One joins the other, whichever prompts they are about."""
    story = Story().baseline().null().cycle(1, warm={"p1": garbage()}).cycle(2, cold={"p2": garbage()})
    assert story.judged().verdict is Verdict.CORRUPT


def test_a_cache_that_outlives_its_blocks_degrades() -> None:
    """Answers that hold although they came from discarded blocks are luck, not health."""
    result = Story().baseline().null().sleep(keeps_cache=True).wake().probe().judged()
    assert result.verdict is Verdict.DEGRADED
    assert result.cause is Cause.STALE_PREFIX_CACHE
    assert result.reason.endswith("had discarded the KV cache (and 3 more)")
    assert result.witness is not None
    assert result.witness.after.cached_tokens == 48


def test_memory_that_stays_degrades() -> None:
    """Answers hold, memory was not given back."""
    result = Story().baseline().null().sleep(freed=0).wake().probe().judged()
    assert result.verdict is Verdict.DEGRADED
    assert result.cause is Cause.MEMORY


def test_a_contradicted_state_degrades() -> None:
    """Answers hold, but the engine was not in the state it claimed."""
    result = Story().baseline().null().sleep(asleep=False).wake().probe().judged()
    assert result.verdict is Verdict.DEGRADED
    assert result.cause is Cause.SCHEDULER


def test_every_degradation_is_told() -> None:
    """The reason names one finding of each kind; the first decides the cause."""
    result = Story().baseline().null().sleep(asleep=False, freed=0, keeps_cache=True).wake().probe().judged()
    assert result.cause is Cause.STALE_PREFIX_CACHE
    assert result.reason.count("; ") == 2


def test_corruption_outweighs_degradation() -> None:
    """A cell that is both is corrupt."""
    story = Story().baseline().null().sleep(freed=0).wake().probe(1, cold=TWO)
    result = story.judged()
    assert result.verdict is Verdict.CORRUPT
    assert {finding.checker for finding in result.findings} >= {"memory", "divergence"}


def test_degradation_outweighs_doubt() -> None:
    """A proven degradation stands although something else could not be told; that is told as well."""
    story = Story().baseline().null({"p0": garbage(3)}).sleep(freed=0).wake().probe()
    result = story.judged()
    assert result.verdict is Verdict.DEGRADED
    assert "the noise is not known well enough" in result.reason


def test_noise_is_never_rounded_up_or_down() -> None:
    """Where null answers differ, differences after the transition neither accuse nor acquit."""
    story = Story().baseline().null({"p0": garbage(3)}).cycle(1, warm={"p0": garbage(3), "p1": garbage(9)})
    result = story.judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.cause is None
    assert result.witness is None
    assert result.bound is None


def test_a_failed_cell_has_no_verdict() -> None:
    """When infrastructure problems the engine is not judged; what was seen is kept."""
    result = judge(clean_story().fail().recording())
    assert result.verdict is None
    assert result.error == "ServerDiedError"
    assert result.reason == "the server is gone"


def test_proven_corruption_survives_a_failure() -> None:
    """A run that breaks off after the damage was recorded is corrupt: retrying must not turn it green."""
    result = judge(Story().baseline().null().cycle(1, warm=TWO).fail().recording())
    assert result.verdict is Verdict.CORRUPT
    assert result.error is None
    assert result.reason.endswith("the run then stopped: ServerDiedError")


def test_degradation_does_not_survive_a_failure() -> None:
    """Whether answers would have held is unknown when infrastructure problems."""
    result = judge(Story().baseline().null().sleep(freed=0).fail().recording())
    assert result.verdict is None


def test_a_cell_that_never_started_a_server() -> None:
    """A history that holds nothing but its first event is inconclusive."""
    story = Story()
    del story.events[1:]
    result = judge(story.recording())
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.vllm_version is None


def test_a_request_that_never_returns_before_and_after() -> None:
    """Prompts that time out in the baseline leave the cell inconclusive."""
    late = {"p0": failing("timeout")}
    result = Story().baseline(late).null(late).sleep().wake().probe(1, warm=late, cold=late).judged()
    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_clean_verdict_without_noise_hides_no_small_effect() -> None:
    """Where every answer equals its baseline, nothing however small was there to be missed."""
    limit = clean_story().judged().bound
    assert limit is not None
    assert limit.statement == (
        "affected prompts < 52.7%, affected requests < 17.1% at 95% "
        "(4 prompts compared in 4 passes, none differed)"
    )
    assert (limit.smallest_single_shift, limit.smallest_common_shift) == (None, None)


def test_a_degradation_is_told_with_one_example_of_each_kind() -> None:
    """The first finding of every checker, how many more it has, and what else keeps the cell from clean."""
    story = Story(prompts=2).baseline().null({"p1": updated(cached_tokens=0)})
    story.sleep(asleep=False, freed=0, keeps_cache=True).wake().probe(1, warm={"p1": garbage(7)})
    story.events = [event for event in story.events if getattr(event, "role", "") != "null"]
    stale, state, memory, doubt, *rest = story.judged().reason.split("; ")
    assert stale == (
        "p0, cycle 1, warm: 48 prompt tokens came from the prefix cache although the sleep before had "
        "discarded the KV cache (and 1 more)"
    )
    assert state == "sleep level 1: /is_sleeping says false"
    assert (
        memory
        == "sleep level 1: memory in use changed by +0 MiB, but it should have fallen by more than 16 MiB"
    )
    assert doubt.startswith("1 of 4 answers differ, but the noise was not measured")
    assert rest == []


def test_findings_of_every_kind_are_kept() -> None:
    """What decides the verdict hides nothing else that was found, whatever decides it."""
    story = Story().baseline().null().sleep(freed=0, asleep=False).wake().probe(1, cold={"p0": garbage()})
    assert {finding.checker for finding in story.judged().findings} == {"divergence", "state", "memory"}


def test_a_corrupt_cell_is_told_in_full() -> None:
    """How many prompts are affected, after what, why, and that the run broke off."""
    story = Story(prompts=2).baseline().null()
    for number in (1, 2):
        story.sleep(2).wake().probe(number, warm={"p1": garbage()}, cold={"p1": failing("http", 500)})
    result = judge(story.fail().recording())
    assert result.reason == (
        "answers to 1 of 2 prompts changed (sleep level 2, wake up); lost weights: the script "
        "discards the weights (sleep level 2) and does not load them again; the run then stopped: "
        "ServerDiedError"
    )
    assert judge(Story().baseline().cycle(1, warm={"p0": failing("connection")}).recording()).reason == (
        "answers to 1 of 4 prompts changed (sleep level 1, wake up); scheduler or protocol: "
        "requests that the engine answered before the transition no longer return"
    )


def test_the_result_says_under_which_fault_and_emulation() -> None:
    """A planted fault and an emulated part are never left out of the judgement."""
    story = clean_story()
    story.events[0] = story.events[0].model_copy(update={"fault": "stale-blocks"})
    story.events[1] = story.events[1].model_copy(update={"emulated": ("sleep mode",)})
    result = story.judged()
    assert (result.fault, result.emulated) == ("stale-blocks", ("sleep mode",))


def test_a_cell_that_could_have_shown_a_small_shift_hides_none_if_nothing_differed() -> None:
    """Where enough was compared to name a smallest effect, none is named beside answers that are equal."""
    result = Story(prompts=12).baseline().null(passes=4).cycle().judged()
    assert result.bound is not None
    assert result.bound.smallest_common_shift is None
    assert result.bound.statement.endswith("12 prompts compared in 2 passes, none differed)")
