"""What an answer of ``/v1/completions`` says, and that it says the same again."""

from __future__ import annotations

from dataclasses import replace

import anyio
import numpy as np
import pytest
from pydantic import JsonValue

from harness.vllm_api import lifecycle
from harness.vllm_api.calls import call
from harness.vllm_api.chat import user_message
from harness.vllm_api.generation import Generation, GenerationRequest, generate, score
from tests.contract.conftest import CALL_DEADLINE_S, Subject

pytestmark = pytest.mark.anyio

ANSWER_KEYS = {
    "choices", "created", "ec_transfer_params", "id", "kv_transfer_params", "metrics", "model", "object",
    "service_tier", "system_fingerprint", "usage",
}  # fmt: skip
CHOICE_KEYS = {
    "finish_reason", "index", "logprobs", "prompt_logprobs", "prompt_token_ids", "routed_experts",
    "stop_reason", "text", "token_ids",
}  # fmt: skip
USAGE_KEYS = {
    "completion_tokens", "completion_tokens_details", "prompt_tokens", "prompt_tokens_details",
    "total_tokens",
}  # fmt: skip
PROMPT_DETAILS_KEYS = {"cached_tokens", "created_cache_tokens", "multimodal_tokens"}
LOGPROBS_KEYS = {"text_offset", "token_logprobs", "tokens", "top_logprobs"}


TEXT = "Which river flows through Paris?"


def assert_same(one: Generation, other: Generation) -> None:
    """Hold two answers to the last bit: both cold, or both warm, and one at a time."""
    assert_same_tokens(one, other)
    np.testing.assert_array_equal(one.chosen_logprobs, other.chosen_logprobs)
    np.testing.assert_array_equal(one.top_ids, other.top_ids)
    np.testing.assert_array_equal(one.top_logprobs, other.top_logprobs)


def assert_same_tokens(one: Generation, other: Generation) -> None:
    """Hold two answers to the same tokens, and to logprobs but for the order of float32 additions."""
    assert one.token_ids == other.token_ids
    assert one.text == other.text
    assert one.finish_reason == other.finish_reason
    np.testing.assert_allclose(one.chosen_logprobs, other.chosen_logprobs, atol=1e-4)


async def test_the_answer_has_exactly_the_known_fields(subject: Subject) -> None:
    """An answer has the fields of vLLM 0.32, no more and no fewer."""
    payload = {
        "model": subject.model,
        "prompt": list(subject.prompts[0]),
        "max_tokens": 4,
        "logprobs": 2,
        "prompt_logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    response = await subject.connection.http.post("/v1/completions", json=payload, timeout=CALL_DEADLINE_S)
    answer = response.json()
    assert answer.keys() == ANSWER_KEYS
    choice = answer["choices"][0]
    assert choice.keys() == CHOICE_KEYS
    assert choice["logprobs"].keys() == LOGPROBS_KEYS
    assert answer["usage"].keys() == USAGE_KEYS
    assert answer["usage"]["prompt_tokens_details"].keys() == PROMPT_DETAILS_KEYS
    assert choice["prompt_logprobs"][0] is None
    assert all(
        entry.keys() == {"logprob", "rank", "decoded_token"}
        for entry in choice["prompt_logprobs"][1].values()
    )


CHAT_KEYS = ANSWER_KEYS | {"prompt_logprobs", "prompt_text", "prompt_token_ids"}
CHAT_CHOICE_KEYS = CHOICE_KEYS - {"prompt_logprobs", "prompt_token_ids", "text"} | {"message"}
MESSAGE_KEYS = {"annotations", "audio", "content", "function_call", "reasoning", "refusal", "role"}


async def test_a_chat_has_exactly_the_known_fields(subject: Subject) -> None:
    """As for completions."""
    payload = {
        "model": subject.model,
        "messages": [user_message(TEXT)],
        "max_tokens": 4,
        "logprobs": True,
        "top_logprobs": 2,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    response = await subject.connection.http.post(
        "/v1/chat/completions", json=payload, timeout=CALL_DEADLINE_S
    )
    answer = response.json()
    assert answer.keys() == CHAT_KEYS
    choice = answer["choices"][0]
    assert choice.keys() == CHAT_CHOICE_KEYS
    assert choice["message"].keys() == MESSAGE_KEYS
    assert choice["logprobs"].keys() == {"content"}
    assert answer["usage"].keys() == USAGE_KEYS
    for position in choice["logprobs"]["content"]:
        assert position.keys() == {"token", "logprob", "bytes", "top_logprobs"}
        assert len(position["top_logprobs"]) == 2
        assert position["top_logprobs"][0].keys() == {"token", "logprob", "bytes"}


async def test_a_chat_answers_as_its_token_ids_do(subject: Subject) -> None:
    """The prompt the tokenizer route tells is the one a chat is answered for, with the same candidates."""
    http, message = subject.connection.http, user_message(TEXT)
    told = await lifecycle.tokenize_chat(http, [message], model=subject.model, deadline_s=CALL_DEADLINE_S)
    ids = told.field("tokens")
    assert isinstance(ids, list)
    prompt = tuple(each for each in ids if isinstance(each, int))
    by_ids = GenerationRequest(
        prompt_token_ids=prompt, max_tokens=8, model=subject.model, deadline_s=CALL_DEADLINE_S, cache_salt="a"
    )
    completion = await generate(subject.connection.openai, by_ids)
    chat = await generate(
        subject.connection.openai, replace(by_ids, messages=(message,), cache_salt="another")
    )
    assert chat.error is None
    assert (chat.prompt_tokens, completion.error) == (len(prompt), None)
    assert_same(chat, completion)


async def test_ids_named_by_logprobs_are_the_generated_ids(subject: Subject) -> None:
    """Ids read from ``logprobs.tokens`` are those that newer releases return as ``token_ids``."""
    payload = {
        "model": subject.model,
        "prompt": list(subject.prompts[0]),
        "max_tokens": 8,
        "temperature": 0,
        "logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    response = await subject.connection.http.post("/v1/completions", json=payload, timeout=CALL_DEADLINE_S)
    choice = response.json()["choices"][0]
    assert choice["logprobs"]["tokens"] == [f"token_id:{token}" for token in choice["token_ids"]]
    assert choice["prompt_token_ids"] == list(subject.prompts[0])


async def test_counts_agree_with_what_came_back(subject: Subject) -> None:
    """Usage counts the tokens that were sent and those that came back."""
    answer = await subject.generate(max_tokens=8)
    assert answer.prompt_tokens == len(subject.prompts[0])
    assert answer.completion_tokens == len(answer.token_ids) == len(answer.chosen_logprobs)


async def test_greedy_takes_the_likeliest_token(subject: Subject) -> None:
    """At temperature 0 the chosen token leads the candidates, which are in descending order."""
    answer = await subject.generate(max_tokens=16, top_logprobs=5)
    assert answer.top_ids.shape == answer.top_logprobs.shape == (len(answer.token_ids), 5)
    np.testing.assert_array_equal(answer.top_ids[:, 0], answer.token_ids)
    np.testing.assert_array_equal(answer.top_logprobs[:, 0], answer.chosen_logprobs)
    assert (np.diff(answer.top_logprobs, axis=1) <= 0).all()
    assert (answer.chosen_logprobs <= 0).all()


async def test_a_sampled_token_may_be_none_of_the_candidates(subject: Subject) -> None:
    """The chosen token's own log-probability is told even where it is not among the likeliest."""
    answer = await subject.generate(max_tokens=32, top_logprobs=1, temperature=2.0, seed=1)
    unlikely = answer.top_ids[:, 0] != np.array(answer.token_ids)
    assert unlikely.any()
    assert (answer.chosen_logprobs[unlikely] <= answer.top_logprobs[unlikely, 0]).all()
    np.testing.assert_array_equal(answer.chosen_logprobs[~unlikely], answer.top_logprobs[~unlikely, 0])


async def test_length_means_the_cap_and_stop_means_before_it(subject: Subject) -> None:
    """``length`` answers have all tokens allowed, ``stop`` answers end in a token without text."""
    answers = await send_all(subject, max_tokens=64)
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    for answer in answers:
        if answer.finish_reason == "length":
            assert len(answer.token_ids) == 64
        else:
            assert len(answer.token_ids) <= 64
            assert answer.stop_reason is None


async def test_answers_do_not_depend_on_neighbours(subject: Subject) -> None:
    """In float32, answers are the same one at a time and all at once."""
    together = await send_all(subject, max_tokens=16, cache_salt="together")
    for prompt, answer in enumerate(together):
        alone = await subject.generate(prompt, max_tokens=16, cache_salt="alone")
        assert_same_tokens(answer, alone)


async def test_a_seed_decides_what_is_sampled(subject: Subject) -> None:
    """The same seed samples the same answer, another seed another one."""
    first = await subject.generate(max_tokens=16, temperature=1.0, seed=1)
    again = await subject.generate(max_tokens=16, temperature=1.0, seed=1)
    assert_same_tokens(first, again)
    other = await subject.generate(max_tokens=16, temperature=1.0, seed=2)
    assert first.token_ids != other.token_ids


async def test_each_choice_counts_as_a_request(subject: Subject) -> None:
    """What we count of our own requests is what the server counts: whoever else asks is told from us."""
    before, asked = await subject.metrics(), subject.connection.asked.number
    await subject.generate()
    body: JsonValue = {"model": subject.model, "prompt": TEXT, "n": 3, "max_tokens": 4, "temperature": 1.0}
    path, deadline_s = "/v1/completions", CALL_DEADLINE_S
    assert (await call(subject.connection.http, "POST", path, payload=body, deadline_s=deadline_s)).ok
    after = await subject.metrics()
    assert before.requests_ended is not None
    assert after.requests_ended == before.requests_ended + 4
    assert subject.connection.asked.number == asked + 4


async def test_scoring_agrees_with_generating(subject: Subject) -> None:
    """The tokens of an answer score, in one prefill, what they had when they were generated."""
    prompt = subject.prompts[0]
    answer = await subject.generate(max_tokens=16)
    scoring = await score(
        subject.connection.openai,
        prompt + answer.token_ids,
        model=subject.model,
        deadline_s=CALL_DEADLINE_S,
    )
    assert scoring.error is None
    assert scoring.token_ids == (prompt + answer.token_ids)[1:]
    assert len(scoring.chosen_logprobs) == len(scoring.token_ids)
    generated = slice(len(prompt) - 1, None)
    np.testing.assert_allclose(scoring.chosen_logprobs[generated], answer.chosen_logprobs, atol=1e-3)
    np.testing.assert_allclose(scoring.top_logprobs[generated], answer.top_logprobs, atol=1e-3)


async def send_all(subject: Subject, **options: object) -> list[Generation]:
    """Send all prompts at once; the answers in the prompts' order."""
    answers: dict[int, Generation] = {}

    async def send(prompt: int) -> None:
        answers[prompt] = await subject.generate(prompt, **options)

    async with anyio.create_task_group() as group:
        for prompt in range(len(subject.prompts)):
            group.start_soon(send, prompt)
    return [answers[prompt] for prompt in range(len(subject.prompts))]
