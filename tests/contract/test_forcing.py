"""The endpoint that takes token ids alone: what it answers, and what it refuses without trace replay."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import JsonValue

from harness.vllm_api import forcing
from harness.vllm_api.calls import CallResult, call
from tests.contract.conftest import CALL_DEADLINE_S, Subject

pytestmark = pytest.mark.anyio

ANSWER_KEYS = {
    "choices", "created", "ec_transfer_params", "kv_transfer_params", "metrics", "mm_placeholders", "model",
    "output_mode", "prompt_logprobs", "prompt_token_id_logprobs", "prompt_token_ids", "request_id", "usage",
}  # fmt: skip
CHOICE_KEYS = {
    "finish_reason", "index", "logprobs", "routed_experts", "sampling_mask", "stop_reason", "token_ids",
    "weight_versions",
}  # fmt: skip


async def ask(subject: Subject, **sampling: JsonValue) -> CallResult:
    """Send the first prompt to the endpoint, cold."""
    parameters: dict[str, JsonValue] = {"temperature": 0.0, "max_tokens": 8, "logprobs": 3, **sampling}
    payload: JsonValue = {
        "model": subject.model,
        "token_ids": [*subject.prompts[0]],
        "sampling_params": parameters,
        "cache_salt": "forcing",
    }
    return await call(
        subject.connection.http, "POST", forcing.PATH, payload=payload, deadline_s=CALL_DEADLINE_S
    )


async def test_the_answer_has_exactly_the_known_fields(subject: Subject) -> None:
    """An answer has the fields of vLLM 0.32, no more and no fewer."""
    answer = (await ask(subject)).body
    assert isinstance(answer, dict)
    assert answer.keys() == ANSWER_KEYS
    choices = answer["choices"]
    assert isinstance(choices, list)
    assert [each.keys() for each in choices if isinstance(each, dict)] == [CHOICE_KEYS]


async def test_it_answers_as_completions_do(subject: Subject) -> None:
    """Tokens, log-probabilities and candidates are those of ``/v1/completions``."""
    completion = await subject.generate(max_tokens=8, top_logprobs=3, cache_salt="completions")
    tokens = (await ask(subject)).body
    read = forcing._Generated.model_validate(tokens)
    (choice,) = read.choices
    positions = choice.logprobs.content
    assert choice.token_ids == completion.token_ids
    assert read.usage.prompt_tokens == completion.prompt_tokens
    np.testing.assert_allclose([each.logprob for each in positions], completion.chosen_logprobs, atol=1e-4)
    assert [set(each.candidates) for each in positions] == [set(row) for row in completion.top_ids.tolist()]


async def test_without_trace_replay_no_token_is_forced(subject: Subject) -> None:
    """An engine that was not started for it says how to start it, and answers the next request."""
    refused = await forcing.force(subject.connection.http, subject.request(), (5, 6))
    assert refused.error is not None
    assert (refused.error.kind, refused.error.status) == ("http", 400)
    assert "--enable-trace-replay" in refused.error.message
    assert (await subject.generate()).token_ids
