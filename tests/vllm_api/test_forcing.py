"""Decoding along given tokens: what is sent, what is read, and how it can fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.vllm_api.connection import connect
from harness.vllm_api.forcing import force
from harness.vllm_api.generation import GenerationRequest, Scoring, generate
from tests.fake_vllm.options import DEFAULT_MODEL, Options
from tests.fake_vllm.serving import serve
from tests.vllm_api.scripted import http, scripted

pytestmark = pytest.mark.anyio

REQUEST = GenerationRequest(
    prompt_token_ids=(5, 6, 7), max_tokens=2, model=DEFAULT_MODEL, deadline_s=30.0, top_logprobs=2
)


def answer(**choice: Any) -> dict[str, Any]:
    """Two tokens as vLLM tells them, the second not among the likeliest."""
    content = [
        {"token_id": 40, "logprob": -0.5, "rank": 1, "top_logprobs": listed((40, -0.5), (41, -1.5), (9, -3))},
        {"token_id": 2, "logprob": -7.0, "rank": 9, "top_logprobs": listed((2, -7), (9, -0.1), (8, -2.5))},
    ]
    told = {"index": 0, "finish_reason": "length", "token_ids": [40, 2], "logprobs": {"content": content}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
    return {"request_id": "1", "usage": usage, "choices": [{**told, **choice}]}


def listed(*candidates: tuple[int, float]) -> list[dict[str, Any]]:
    """Candidates as vLLM lists them."""
    return [{"token_id": token, "logprob": logprob, "rank": 1} for token, logprob in candidates]


async def forced(body: object, *, status: str = "200 OK") -> Scoring:
    """What becomes of this answer."""
    async with scripted(http(body, status=status)) as server:
        return await force(server.connection.http, REQUEST, (40, 2))


async def test_the_request_names_the_tokens_to_decode() -> None:
    """One candidate more is asked for than is kept: the taken token counts as one."""
    request = GenerationRequest(
        prompt_token_ids=(5, 6), max_tokens=9, model="adapter", deadline_s=30.0, cache_salt="salt"
    )
    async with scripted(http(answer())) as server:
        await force(server.connection.http, request, (40, 2))
    parameters = {"temperature": 0.0, "max_tokens": 2, "logprobs": 6, "trace_decode_token_ids": [40, 2]}
    assert server.requests == [
        {"model": "adapter", "token_ids": [5, 6], "sampling_params": parameters, "cache_salt": "salt"}
    ]


async def test_no_more_candidates_are_asked_for_than_a_server_tells() -> None:
    """Twenty is the most, and no salt is sent where there is none."""
    request = GenerationRequest(
        prompt_token_ids=(5,), max_tokens=1, model="m", deadline_s=30.0, top_logprobs=20
    )
    async with scripted(http(answer())) as server:
        await force(server.connection.http, request, (40, 2))
    assert server.requests[0]["sampling_params"]["logprobs"] == 20
    assert "cache_salt" not in server.requests[0]


async def test_an_unlikely_token_is_told_beside_the_likeliest() -> None:
    """The taken token's own log-probability stands apart; the candidates are the likeliest ones."""
    told = await forced(answer())
    assert told.error is None
    assert told.token_ids == (40, 2)
    assert told.cached_tokens == 0
    np.testing.assert_array_equal(told.chosen_logprobs, np.array([-0.5, -7.0], dtype=np.float32))
    np.testing.assert_array_equal(told.top_ids, [[40, 41], [9, 8]])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"token_ids": [40, 3]}, "departed from the tokens"),
        ({"token_ids": [40]}, "departed from the tokens"),
        ({"logprobs": {"content": []}}, "0 log-probabilities for 2 tokens"),
        ({"logprobs": None}, "logprobs"),
    ],
)
async def test_an_answer_about_other_tokens_is_none(choice: dict[str, Any], message: str) -> None:
    """An engine that ignores what it was to decode along has not answered the question."""
    told = await forced(answer(**choice))
    assert told.error is not None
    assert told.error.kind == "protocol"
    assert message in told.error.message


async def test_a_refusal_is_told_in_the_servers_words() -> None:
    """A server without the endpoint's flag answers 403 and says which it is."""
    told = await forced({"error": {"message": "Scale-out endpoints are disabled."}}, status="403 Forbidden")
    assert told.error is not None
    assert (told.error.kind, told.error.status) == ("http", 403)
    assert "disabled" in told.error.message


async def test_forcing_weighs_as_generating_does() -> None:
    """Along its own answer an engine weighs what it weighed when it chose."""
    async with serve(Options(enable_trace_replay=True)) as base_url, connect(base_url) as connection:
        request = GenerationRequest(
            prompt_token_ids=tuple(range(10, 60)), max_tokens=16, model=DEFAULT_MODEL, deadline_s=30.0
        )
        chosen = await generate(connection.openai, request)
        told = await force(connection.http, request, chosen.token_ids)
        other = await force(connection.http, request, (*chosen.token_ids[:-1], 7, 8))
    assert told.error is None
    np.testing.assert_allclose(told.chosen_logprobs, chosen.chosen_logprobs)
    np.testing.assert_array_equal(told.top_ids, chosen.top_ids)
    assert other.token_ids[-2:] == (7, 8)
