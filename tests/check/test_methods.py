"""Answers that were scored or sampled are judged as what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.check.result import Cause, Verdict
from harness.history.passes import Answer, Method
from tests.check.stories import Change, Story, garbage, scaled, shifted, with_tokens

SCORED, FORCED, SAMPLED = Method.SCORED, Method.FORCED, Method.SAMPLED


def story() -> Story:
    """A cell that asks by every method, up to its first probe after a transition."""
    return Story(prompts=8, methods=(SCORED, FORCED, SAMPLED)).baseline().null().sleep().wake()


def damaged(method: Method, change: Change, *, prompts: int = 8) -> Story:
    """A cell in which only the answers of one method change."""
    return story().probe(others={method: {f"p{i}": change for i in range(prompts)}})


def test_unchanged_answers_of_every_method_are_clean() -> None:
    """What was only scored neither ends nor counts tokens, and nobody holds that against it."""
    assert story().probe().judged().verdict is Verdict.CLEAN


def test_a_scored_answer_is_compared_with_a_scored_one() -> None:
    """A prefill is never held against a decoded answer, though both have the same tokens."""
    pairs = {
        (each.reply.start.method, each.reference.start.method) for each in story().probe().evidence().after
    }

    assert pairs == {(method, method) for method in Method}


@pytest.mark.parametrize("change", [shifted(0.05), scaled(0.99)])
@pytest.mark.parametrize("method", [SCORED, FORCED])
def test_given_tokens_with_other_logprobs_are_corrupt(method: Method, change: Change) -> None:
    """The same tokens are less likely than they were: the model is another one, or decodes otherwise."""
    result = damaged(method, change, prompts=2).judged()

    assert result.verdict is Verdict.CORRUPT
    assert {finding.message.split(": ")[0] for finding in result.findings} == {
        f"p{i}, cycle 1, {method.value}" for i in range(2)
    }


def test_forced_answers_tell_no_fingerprint() -> None:
    """Their endpoint does not say which configuration answers; that is nothing to hold against it."""
    told = Story(prompts=8, methods=(FORCED,)).baseline().null().sleep().wake().probe()
    told.events = [
        event.model_copy(update={"system_fingerprint": None})
        if isinstance(event, Answer) and event.pass_number in numbers_of(told, FORCED)
        else event
        for event in told.events
    ]

    assert told.judged().findings == ()


def numbers_of(told: Story, method: Method) -> set[int]:
    """The passes that ask by one method."""
    return {each.start.number for each in told.recording().passes if each.start.method is method}


def other_draw(at: int) -> Change:
    """From ``at`` on other tokens, although their candidates were as likely as before."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        drawn = tuple(int(token) for token in answer.logprobs.top_ids[at:, 1])
        other = with_tokens(answer, (*answer.token_ids[:at], *drawn), finish_reason="length")
        candidates = answer.logprobs
        assert other.logprobs is not None
        chosen = candidates.chosen.copy()
        chosen[at:] = candidates.top_values[at:, 1]
        return other.model_copy(
            update={
                "finish_reason": answer.finish_reason,
                "logprobs": candidates.pack(
                    chosen=chosen, top_ids=candidates.top_ids, top_values=candidates.top_values
                ),
            }
        )

    return change


def test_another_draw_from_the_same_candidates_is_a_moved_seed() -> None:
    """With the same seed and the same likelihoods another token cannot be drawn."""
    result = damaged(SAMPLED, other_draw(5)).judged()

    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER)


def test_damage_in_every_answer_is_not_blamed_on_the_seed() -> None:
    """Where greedy answers are damaged as well, the sampler is not the cause."""
    every = {f"p{i}": garbage(2) for i in range(8)}
    result = story().probe(warm=every, cold=every, others={SCORED: {}, SAMPLED: every}).judged()

    assert result.verdict is Verdict.CORRUPT
    assert result.cause is not Cause.SCHEDULER


@pytest.mark.parametrize("noise", [shifted(0.0005)])
def test_a_draw_that_rounding_explains_is_no_damage(noise: Callable[[Answer], Answer]) -> None:
    """Where the candidates differ by as little as rounding does, another draw is nobody's fault."""

    def change(answer: Answer) -> Answer:
        # The shift begins before the other draw, as it does when rounding causes it.
        return other_draw(5)(noise(answer))

    result = damaged(SAMPLED, change, prompts=1).judged()

    assert result.verdict is Verdict.CLEAN


@pytest.mark.parametrize(("by", "verdict"), [(8e-6, Verdict.CORRUPT), (1.2e-5, Verdict.CLEAN)])
def test_a_draw_is_excused_by_as_much_rounding_as_could_have_caused_it(by: float, verdict: Verdict) -> None:
    """Six positions that each moved by this make another draw less, or more, likely than one in 20,000."""

    def change(answer: Answer) -> Answer:
        return other_draw(5)(moved_throughout(answer, by=by))

    assert damaged(SAMPLED, change, prompts=2).judged().verdict is verdict


def moved_throughout(answer: Answer, *, by: float) -> Answer:
    """The answer with every log-probability lower; contrasts stay, so a position moves by a fifth of that."""
    assert answer.logprobs is not None
    before = answer.logprobs
    lower = before.pack(
        chosen=before.chosen - by * before.k,
        top_ids=before.top_ids,
        top_values=before.top_values - by * before.k,
    )
    return answer.model_copy(update={"logprobs": lower})


def test_a_moved_seed_is_told_with_what_clears_the_model() -> None:
    """Greedy answers and candidates hold, so only the random numbers are left."""
    reason = damaged(SAMPLED, other_draw(5)).judged().reason
    assert reason == (
        "answers to 8 of 8 prompts changed (sleep level 1, wake up); scheduler or protocol: "
        "greedy answers equal the baseline, and so do the candidates that were sampled from: only "
        "the random numbers differ"
    )


def test_a_cell_that_only_samples_cannot_blame_the_seed() -> None:
    """Where no other answer was given, none clears the model."""
    sampled_only = damaged(SAMPLED, other_draw(5))
    numbers = {
        each.start.number for each in sampled_only.recording().passes if each.start.method is not SAMPLED
    }
    sampled_only.events = [
        event
        for event in sampled_only.events
        if not numbers & {getattr(event, "number", 0), getattr(event, "pass_number", 0)}
    ]
    assert sampled_only.judged().cause is not Cause.SCHEDULER


def test_every_method_has_a_limit_of_its_own() -> None:
    """What is noise when sampling is damage where a prefill is scored."""
    noisy = {f"p{i}": shifted(0.3, 0) for i in range(8)}
    told = Story(prompts=8, prefix_caching=False, methods=(SCORED, SAMPLED)).baseline()
    told.null(noisy, passes=4)
    scored = [each.start.number for each in told.recording().passes if each.start.method is SCORED]
    told.events = [
        shifted(-0.3, 0)(event)
        if isinstance(event, Answer) and event.pass_number in scored[1:] and event.prompt in noisy
        else event
        for event in told.events
    ]
    told.sleep().wake().probe(others={SCORED: {"p0": shifted(0.5, 0)}, SAMPLED: {"p0": shifted(0.5, 0)}})
    gross = [finding for finding in told.judged().findings if finding.evidence.get("test") == "gross"]
    assert [finding.message.split(":")[0] for finding in gross] == ["p0, cycle 1, scored"]
