"""What no answer may do."""

from __future__ import annotations

import numpy as np
import pytest

from harness.check.checkers import protocol
from harness.check.result import Finding, Strength
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, Method
from tests.check.stories import (
    END_OF_SEQUENCE,
    VOCABULARY,
    Change,
    Story,
    clean_story,
    failing,
    garbage,
    prompt,
    updated,
    with_tokens,
)


def findings_after(change: Change) -> list[Finding]:
    """Protocol findings when ``change`` happens to the warm answer of p0 after a sleep."""
    story = Story().baseline().null().cycle(1, warm={"p0": change})
    return list(protocol.check(story.evidence()))


def violation_after(change: Change) -> object:
    """The kind of the only violation."""
    [finding] = findings_after(change)
    return finding.evidence["violation"]


def with_logprobs(**arrays: object) -> Change:
    """Replace single arrays of an answer's log-probabilities."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        packed = {
            "chosen": answer.logprobs.chosen,
            "top_ids": answer.logprobs.top_ids,
            "top_values": answer.logprobs.top_values,
            **arrays,
        }
        return answer.model_copy(update={"logprobs": Logprobs.pack(**packed)})  # type: ignore[arg-type] # test shorthand

    return change


def chosen_at(position: int, value: float, *, top_too: bool = False) -> Change:
    """Replace the log-probability of one token, in the list of the likeliest as well if asked."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        chosen, top = answer.logprobs.chosen.copy(), answer.logprobs.top_values.copy()
        chosen[position] = value
        if top_too:
            top[position, 0] = value
        return with_logprobs(chosen=chosen, top_values=top)(answer)

    return change


def test_healthy_answers_violate_nothing() -> None:
    """A story without changes has no protocol finding, before or after."""
    evidence = clean_story().evidence()
    assert list(protocol.check(evidence)) == []
    assert protocol.baseline_violations(evidence) == ()


def test_a_finding_names_prompt_pass_and_cycle() -> None:
    """A finding can be followed back to the answer it is about."""
    [finding] = findings_after(updated(completion_tokens=3))
    assert (finding.checker, finding.prompt, finding.cycle) == ("protocol", "p0", 1)
    assert finding.message == "p0, cycle 1, warm: 24 tokens received, but usage says 3"
    assert finding.strength is Strength.PROOF
    story = Story().baseline().null().cycle()
    after = [each.start.number for each in story.recording().passes if each.start.role == "after"]
    assert finding.pass_number == after[0]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (updated(completion_tokens=23), "token count"),
        (updated(completion_tokens=25), "token count"),
        (updated(prompt_tokens=48), "prompt count"),
        (updated(prompt_tokens=50), "prompt count"),
        (updated(finish_reason=None), "not finished"),
        (updated(finish_reason="error"), "not finished"),
        (updated(finish_reason="abort"), "not finished"),
        (updated(system_fingerprint="vllm-0.33.0"), "fingerprint"),
        (updated(system_fingerprint=None), "fingerprint"),
    ],
)
def test_a_contradictory_field_is_found(change: Change, kind: str) -> None:
    """Counts, finish reasons and the server's identity must fit the answer."""
    assert violation_after(change) == kind


def test_length_before_the_cap_is_found() -> None:
    """An answer may only end by length at the cap."""
    assert violation_after(lambda a: with_tokens(a, a.token_ids[:23])) == "early limit"


def test_more_tokens_than_allowed_are_found() -> None:
    """No answer may be longer than the cap."""
    assert violation_after(lambda a: with_tokens(a, (*a.token_ids, 7))) == "over the limit"


def test_tokens_after_the_end_are_found() -> None:
    """Nothing may follow the end of sequence."""

    def change(answer: Answer) -> Answer:
        return with_tokens(answer, (*answer.token_ids[:10], END_OF_SEQUENCE, *answer.token_ids[11:]))

    [finding] = findings_after(change)
    assert finding.evidence["violation"] == "after the end"
    assert "13 tokens follow the end of sequence at token 10" in finding.message


def test_a_stop_without_an_end_is_found() -> None:
    """An answer stops at an end of sequence, or says at which token or string it stopped."""
    assert violation_after(updated(finish_reason="stop")) == "no end"
    assert findings_after(updated(finish_reason="stop", stop_reason=151645)) == []
    assert findings_after(updated(finish_reason="stop", stop_reason="END")) == []


@pytest.mark.parametrize("token", [-1, VOCABULARY, VOCABULARY + 7])
def test_an_unknown_token_is_found(token: int) -> None:
    """Every id must be one of the vocabulary's."""

    def change(answer: Answer) -> Answer:
        return with_tokens(answer, (*answer.token_ids[:-1], token))

    assert violation_after(change) == "out of vocabulary"


@pytest.mark.parametrize("token", [0, VOCABULARY - 1])
def test_the_first_and_last_token_of_the_vocabulary_are_allowed(token: int) -> None:
    """The limits of the vocabulary belong to it."""
    assert findings_after(lambda a: with_tokens(a, (*a.token_ids[:-1], token))) == []


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), -9999.0])
def test_a_logprob_that_is_no_number_is_found(value: float) -> None:
    """NaN, infinity and vLLM's stand-in for it are never the log-probability of a token."""
    [finding] = findings_after(chosen_at(5, value))
    assert finding.evidence["violation"] == "not finite"
    assert "token 5" in finding.message


def test_nan_among_the_likeliest_is_found() -> None:
    """The candidates' values are checked as well."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top = answer.logprobs.top_values.copy()
        top[2, 1] = np.nan
        return with_logprobs(top_values=top)(answer)

    assert violation_after(change) == "not finite"


def test_missing_candidates_are_no_violation() -> None:
    """A place without a candidate (id -1, minus infinity) is not a broken number."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        ids, top = answer.logprobs.top_ids.copy(), answer.logprobs.top_values.copy()
        ids[:, 2], top[:, 2] = -1, -np.inf
        return with_logprobs(top_ids=ids, top_values=top)(answer)

    assert findings_after(change) == []


def test_more_probable_than_certain_is_found() -> None:
    """A log-probability above zero is impossible."""
    assert violation_after(chosen_at(4, 0.5, top_too=True)) == "above one"


def test_rounding_above_certain_is_allowed() -> None:
    """float32 may round a certain token's log-probability a little above zero."""
    assert findings_after(chosen_at(4, 5e-5, top_too=True)) == []


def test_one_token_with_two_logprobs_is_found() -> None:
    """The generated token and the same token among the likeliest must agree."""
    [finding] = findings_after(chosen_at(4, -0.2))
    assert finding.evidence["violation"] == "contradictory logprob"
    assert "token 4" in finding.message


def test_a_token_that_should_have_been_listed_is_found() -> None:
    """A token more probable than a listed one must be listed itself."""
    assert violation_after(updated(token_ids=(999, *range(300, 323)))) == "contradictory logprob"


def test_an_unlikely_token_need_not_be_listed() -> None:
    """A token below all listed ones breaks no rule of bookkeeping; at temperature 0 it is not greedy."""

    def change(answer: Answer) -> Answer:
        return chosen_at(0, -30.0)(updated(token_ids=(999, *answer.token_ids[1:]))(answer))

    [finding] = findings_after(change)
    assert finding.evidence["violation"] == "not greedy"
    assert "token 0" in finding.message


def test_a_sampled_token_need_not_be_the_likeliest() -> None:
    """Above temperature 0 any token may be chosen."""
    story = Story().baseline().null().cycle()
    recording = story.recording()
    answer = recording.passes[0].answers["p0"]
    warm = recording.cell.model_copy(update={"temperature": 1.0})
    unlikely = chosen_at(0, -30.0)(updated(token_ids=(999, *answer.token_ids[1:]))(answer))
    sampled = story.evidence().recording.__class__(cell=warm, prompts=recording.prompts)
    assert list(protocol.inconsistencies(unlikely, method=Method.GENERATED, recording=sampled)) == []


def test_too_few_logprobs_are_found() -> None:
    """There is one log-probability for every token."""
    short = updated(token_ids=tuple(range(300, 323)), completion_tokens=23)
    kinds = {finding.evidence["violation"] for finding in findings_after(short)}
    assert kinds == {"early limit", "logprob count"}


@pytest.mark.parametrize("kind", ["http", "connection", "protocol"])
def test_a_failed_request_is_found(kind: str) -> None:
    """An answer the baseline gave and that now fails is proof; a NaN logit can surface as a 500."""
    [finding] = findings_after(failing(kind, 500))
    assert finding.evidence["violation"] == f"failed: {kind}"
    assert finding.strength is Strength.PROOF


def test_a_timeout_is_left_to_termination() -> None:
    """One failure is not reported twice."""
    assert findings_after(failing("timeout")) == []


def test_what_the_baseline_does_as_well_is_only_a_hint() -> None:
    """A violation from before the transition cannot have come from it."""
    broken = {"p1": updated(prompt_tokens=7)}
    story = Story().baseline(broken).null().cycle(1, warm={"p0": updated(prompt_tokens=7)})
    [finding] = protocol.check(story.evidence())
    assert finding.strength is Strength.HINT
    assert protocol.baseline_violations(story.evidence()) == tuple(
        f"p1, baseline, {cache}: 49 prompt tokens sent, but usage says 7"
        for cache in ("warm", "rehit", "cold")
    )


def test_what_the_baseline_could_not_answer_is_only_a_hint() -> None:
    """A prompt that timed out before the transition and fails after it says nothing about it."""
    story = Story().baseline({"p0": failing("timeout")}).null().cycle(1, warm={"p0": failing("http", 500)})
    [finding] = protocol.check(story.evidence())
    assert finding.strength is Strength.HINT


def test_a_violation_in_the_null_transition_is_a_baseline_violation() -> None:
    """Whatever happens before the first real transition speaks about the server as such."""
    story = Story().baseline().null({"p1": updated(prompt_tokens=7)}).cycle()
    assert len(protocol.baseline_violations(story.evidence())) == 2


def test_a_penalty_of_the_server_is_no_unsound_baseline() -> None:
    """A model's own generation config may make the likeliest token lose; that is no defect."""

    def penalised(answer: Answer) -> Answer:
        return chosen_at(0, -30.0)(updated(token_ids=(999, *answer.token_ids[1:]))(answer))

    story = Story().baseline({"p0": penalised}).null().cycle()
    assert protocol.baseline_violations(story.evidence()) == ()


def test_other_tokens_alone_are_no_violation() -> None:
    """Whether an answer is the baseline's is for another checker."""
    assert findings_after(garbage()) == []


def test_an_answer_without_logprobs_is_consistent() -> None:
    """Log-probabilities are checked where there are any."""
    recording = Story().baseline().recording()
    answer = Answer(
        t=0,
        pass_number=1,
        prompt="p0",
        token_ids=(5, END_OF_SEQUENCE),
        finish_reason="stop",
        completion_tokens=2,
        prompt_tokens=len(prompt(0).token_ids),
        seconds=1,
    )
    assert list(protocol.inconsistencies(answer, method=Method.GENERATED, recording=recording)) == []


def ending_in(*tokens: int) -> Change:
    """The last tokens of the answer are these."""
    return lambda answer: with_tokens(answer, (*answer.token_ids[: -len(tokens)], *tokens))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (updated(prompt_tokens=48), "49 prompt tokens sent, but usage says 48"),
        (lambda a: with_tokens(a, (*a.token_ids, 7)), "25 tokens received, but only 24 allowed"),
        (lambda a: with_tokens(a, a.token_ids[:23]), "ended by length after 23 of 24 tokens"),
        (updated(finish_reason="abort"), "ended with finish reason 'abort'"),
        (
            updated(finish_reason="stop"),
            "ended by stop without an end of sequence, a stop token or a stop string",
        ),
        (ending_in(-1), "token id -1 is outside the vocabulary of 1000"),
        (ending_in(-1, VOCABULARY), "token id -1 is outside the vocabulary of 1000"),
        (ending_in(0, VOCABULARY), "token id 1000 is outside the vocabulary of 1000"),
        (updated(system_fingerprint="other"), "answered by configuration 'other'"),
        (failing("http", 500), "no answer: no answer came"),
    ],
)
def test_every_violation_has_its_sentence(change: Change, sentence: str) -> None:
    """Whoever reads the finding need not look into the recording."""
    [finding] = findings_after(change)
    assert finding.message == f"p0, cycle 1, warm: {sentence}"


def test_one_log_probability_too_few_is_told() -> None:
    """How many of each there are."""
    short = updated(
        token_ids=tuple(range(300, 323)), completion_tokens=23, finish_reason="stop", stop_reason="END"
    )
    [finding] = findings_after(short)
    assert finding.message == "p0, cycle 1, warm: 23 tokens came with 24 log-probabilities"
