"""Every rival sees what its publication says it sees, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, Method, Role
from harness.history.recording import Recording
from tests.benchmarks.rivals import (
    RIVALS,
    Opinion,
    exact_tokens,
    generated_only,
    sglang_mean_kl,
    vllm_logprobs_close,
    vllm_sleep_test,
)
from tests.check.simulation import Noise, Setup, simulate
from tests.check.stories import (
    COLD,
    Change,
    Story,
    failing,
    flip,
    garbage,
    scaled,
    shifted,
    stop_after,
    updated,
)

Rival = Callable[[Recording], Opinion]
SCORED, SAMPLED = Method.SCORED, Method.SAMPLED


def after(change: Change | None = None, *, prompts: tuple[str, ...] = ("p0",)) -> Recording:
    """A cell of four prompts in which ``change`` happens to the warm answers after a sleep."""
    changes = dict.fromkeys(prompts, change) if change else {}
    return Story().baseline().null().cycle(1, warm=changes).finish().recording()


def alarms(recording: Recording) -> set[str]:
    """Which rivals alarm."""
    return {who for who, rival in RIVALS.items() if rival(recording).alarm}


def moved(by: float, *, position: int) -> Change:
    """The same tokens, one of which is less likely by ``by`` nat."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        chosen = answer.logprobs.chosen.copy()
        chosen[position] -= by
        logprobs = Logprobs.pack(
            chosen=chosen, top_ids=answer.logprobs.top_ids, top_values=answer.logprobs.top_values
        )
        return answer.model_copy(update={"logprobs": logprobs})

    return change


def test_nobody_alarms_where_nothing_changed() -> None:
    """An engine that comes back bit by bit the same passes every test."""
    assert alarms(after()) == set()


def test_everybody_sees_garbage_from_the_first_token() -> None:
    """Other tokens everywhere, which the baseline did not think likely."""
    everywhere = after(garbage(), prompts=("p0", "p1", "p2", "p3"))
    assert alarms(everywhere) == set(RIVALS)


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_a_request_without_an_answer_alarms(rival: Rival) -> None:
    """A test whose request fails does not pass."""
    assert rival(after(failing("timeout"))).alarm


def test_a_request_that_left_no_trace_alarms() -> None:
    """A pass that was asked and never answered is no pass."""
    story = Story().baseline().null().sleep().wake()
    story.probe(1)
    story.ask(Role.AFTER, COLD, cycle=1, answered=False)
    assert alarms(story.finish().recording()) == set(RIVALS) - {"vLLM's sleep test"}


@pytest.mark.parametrize("rival", RIVALS.values(), ids=RIVALS)
def test_answers_without_logprobs_are_no_obstacle(rival: Rival) -> None:
    """Where nothing asked for log-probabilities, equal tokens pass, except where only values count."""
    without = {f"p{i}": updated(logprobs=None) for i in range(4)}
    story = Story().baseline(without).null(without).cycle(1, warm=without, cold=without)
    assert rival(story.finish().recording()).alarm is (rival is sglang_mean_kl)


def test_the_sleep_test_looks_at_the_first_prompt_only() -> None:
    """Any other prompt may be ruined."""
    others = after(garbage(), prompts=("p1", "p2", "p3"))
    assert not vllm_sleep_test(others).alarm
    assert exact_tokens(others).alarm


def test_the_sleep_test_looks_at_eight_tokens_only() -> None:
    """What goes wrong from the ninth token on is not generated there."""
    assert vllm_sleep_test(after(garbage(7))).alarm
    assert not vllm_sleep_test(after(garbage(8))).alarm


def test_the_sleep_test_compares_logprobs_to_a_hundredth() -> None:
    """Its tolerance is fixed."""
    assert vllm_sleep_test(after(shifted(0.011))).alarm
    assert not vllm_sleep_test(after(shifted(0.009))).alarm


def test_the_sleep_test_sees_an_answer_that_ends_early() -> None:
    """Fewer than eight tokens are not the same eight tokens."""
    assert vllm_sleep_test(after(stop_after(3))).alarm


def test_the_sleep_test_sees_reads_from_a_discarded_cache() -> None:
    """Right answers from hashes that outlived their blocks do not pass, after a sleep that discards."""
    stale = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1)
    assert vllm_sleep_test(stale.finish().recording()).alarm
    awake = Story().baseline().null().sleep(level=0).wake().probe(1)
    assert not vllm_sleep_test(awake.finish().recording()).alarm


def test_the_sleep_test_looks_at_every_cycle() -> None:
    """Damage that comes with the second cycle is seen, at eight tokens a cycle."""
    story = Story().baseline().null().cycle(1).cycle(2, warm={"p0": garbage()}).cycle(3)
    opinion = vllm_sleep_test(story.finish().recording())
    assert opinion.alarm
    assert opinion.tokens == 16


def test_exact_tokens_sees_the_last_token_of_the_last_answer() -> None:
    """Nothing but equal tokens passes, an early end included."""
    assert exact_tokens(after(garbage(23), prompts=("p3",))).alarm
    assert exact_tokens(after(stop_after(20), prompts=("p3",))).alarm


def test_exact_tokens_does_not_see_values() -> None:
    """Logits scaled by 0.98 change no greedy token."""
    assert not exact_tokens(after(scaled(0.98))).alarm


def test_logprobs_close_forgives_a_likely_token_and_all_that_follows() -> None:
    """It stops at the first token that differs: what comes then is not read."""
    assert not vllm_logprobs_close(after(flip(5))).alarm
    assert vllm_logprobs_close(after(garbage(5))).alarm


@pytest.mark.parametrize("change", [shifted(2.0), scaled(0.5), updated(token_ids=())])
def test_logprobs_close_compares_neither_values_nor_lengths(change: Change) -> None:
    """A changed model passes as long as tokens that differ stay likely, and so does an empty answer."""
    assert not vllm_logprobs_close(after(change)).alarm


def test_mean_kl_sees_values_that_moved_everywhere() -> None:
    """A shift of every token by a tenth of a nat is twice its threshold."""
    everywhere = {f"p{i}": shifted(0.1, position=0) for i in range(4)}
    recording = Story().baseline().null().cycle(1, warm=everywhere).finish().recording()
    assert sglang_mean_kl(recording).alarm


def test_mean_kl_hides_one_bad_token() -> None:
    """One token of 84 that is half a nat off does not move the mean to the threshold."""
    assert not sglang_mean_kl(after(moved(0.5, position=3))).alarm


def test_mean_kl_ends_where_the_tokens_part() -> None:
    """Garbage in one answer leaves it nothing to compare there."""
    assert not sglang_mean_kl(after(garbage(1))).alarm


def fewer_logprobs(answer: Answer) -> Answer:
    """The same tokens, with log-probabilities for the first three only."""
    assert answer.logprobs is not None
    logprobs = Logprobs.pack(
        chosen=answer.logprobs.chosen[:3],
        top_ids=answer.logprobs.top_ids[:3],
        top_values=answer.logprobs.top_values[:3],
    )
    return answer.model_copy(update={"logprobs": logprobs})


@pytest.mark.parametrize("change", [fewer_logprobs, updated(logprobs=None)], ids=["fewer", "none"])
def test_missing_logprobs_alarm_the_sleep_test_only(change: Change) -> None:
    """It asks for as many as before; the others use what there is."""
    assert alarms(after(change)) == {"vLLM's sleep test"}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_values_that_are_no_numbers_alarm_whoever_compares_values(value: float) -> None:
    """Neither is close to what it was."""
    assert alarms(after(moved(value, position=3))) == {"vLLM's sleep test", "SGLang's mean KL"}


def test_noise_like_bf16_alarms_those_without_a_tolerance() -> None:
    """Exact comparison cries wolf on a healthy engine; membership and means do not."""
    noisy = simulate(1, Setup(prompts=16, tokens=64, cycles=1, noise=Noise(sd=0.02, quantum=0.0)))
    assert "exact tokens" in alarms(noisy)
    assert not alarms(noisy) & {"check_logprobs_close", "SGLang's mean KL"}


def test_rivals_see_generated_answers_only() -> None:
    """Scored and sampled passes came later than they did."""
    ruined: Mapping[str, Change] = dict.fromkeys(("p0", "p1", "p2", "p3"), garbage())
    story = Story(methods=(SCORED, SAMPLED)).baseline().null().sleep().wake()
    recording = story.probe(1, others={SCORED: ruined, SAMPLED: ruined}).finish().recording()

    assert alarms(recording) == set()
    assert {each.start.method for each in generated_only(recording).passes} == {Method.GENERATED}


def test_tokens_are_those_after_the_transition() -> None:
    """One warm and one cold pass: three answers at the limit of 24 and one that ends after 12, twice."""
    assert exact_tokens(after()).tokens == 2 * (3 * 24 + 12)
    assert vllm_sleep_test(after()).tokens == 8
