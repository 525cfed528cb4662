"""Streams: what is told of each, and every way in which one can break off."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from harness.vllm_api.connection import connect
from harness.vllm_api.generation import GenerationRequest, generate
from harness.vllm_api.streaming import Streamed, stream
from tests.fake_vllm.options import DEFAULT_MODEL
from tests.fake_vllm.serving import serve
from tests.vllm_api.scripted import http, scripted

pytestmark = pytest.mark.anyio

REQUEST = GenerationRequest(prompt_token_ids=(5, 6, 7), max_tokens=4, model=DEFAULT_MODEL, deadline_s=30.0)


@dataclass
class Watched:
    """A stream and what was called on its way."""

    streamed: Streamed = field(default_factory=Streamed)
    calls: list[str] = field(default_factory=list)


def part(*tokens: int, reason: str | None = None, text: str = "x") -> dict[str, Any]:
    """One part as vLLM sends it."""
    logprobs = {
        "tokens": [f"token_id:{token}" for token in tokens],
        "token_logprobs": [-0.5 for _ in tokens],
        "top_logprobs": [{f"token_id:{token}": -0.5} for token in tokens],
        "text_offset": [0 for _ in tokens],
    }
    choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason, "stop_reason": None}
    return {"id": "cmpl-1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}


def events(*parts: object) -> bytes:
    """A whole stream of server-sent events."""
    lines = [f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in parts]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


async def read(answer: bytes, **changes: Any) -> Watched:
    """What becomes of this answer."""
    watched = Watched()
    async with scripted(answer) as server:
        await stream(
            server.connection.openai,
            GenerationRequest(**{**vars(REQUEST), **changes}),
            into=watched.streamed,
            on_accepted=lambda: watched.calls.append("accepted"),
            on_first_token=lambda: watched.calls.append("first token"),
        )
    return watched


def sse(body: bytes) -> bytes:
    """It as an HTTP answer of the right type."""
    return http(body).replace(b"application/json", b"text/event-stream")


async def test_a_stream_is_the_sum_of_its_parts() -> None:
    """Tokens, text and the reason, with the counts from the last part; both calls come once, in order."""
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    last = {**part(), "choices": [], "usage": usage}
    watched = await read(sse(events(part(7), part(8, 9, reason="length"), last)))
    told = watched.streamed
    assert (told.token_ids, told.text, told.finish_reasons) == ([7, 8, 9], "xx", ["length"])
    assert (told.completion_tokens, told.cached_tokens, told.tokens_after_end) == (3, 2, 0)
    assert told.complete
    assert told.error is None
    assert watched.calls == ["accepted", "first token"]


async def test_what_comes_after_the_end_is_counted() -> None:
    """A second finish reason is kept beside the first, and late tokens are counted."""
    told = (await read(sse(events(part(7, reason="abort"), part(8, reason="length"))))).streamed
    assert told.finish_reasons == ["abort", "length"]
    assert told.tokens_after_end == 1


async def test_an_error_in_the_middle_keeps_what_had_come() -> None:
    """An engine tells it as an event: the status was sent long before."""
    told = (await read(sse(events(part(7), {"error": {"message": "EngineCore died", "code": 500}})))).streamed
    assert told.token_ids == [7]
    assert told.error is not None
    assert (told.error.kind, "EngineCore died" in told.error.message) == ("http", True)
    assert not told.complete


async def test_a_refusal_is_an_error_with_its_status() -> None:
    """A request that is refused never becomes a stream."""
    watched = await read(http({"error": {"message": "no such model"}}, status="404 Not Found"))
    assert watched.streamed.error is not None
    assert (watched.streamed.error.status, watched.streamed.error.message) == (404, "no such model")
    assert watched.calls == []


async def test_a_connection_that_breaks_off_is_an_error() -> None:
    """Half a stream is not a whole one."""
    whole = sse(events(part(7), part(8, reason="stop")))
    told = (await read(whole[:-60])).streamed
    assert told.error is not None
    assert told.error.kind == "connection"
    assert told.token_ids == [7]


async def test_a_part_that_is_not_one_is_a_protocol_error() -> None:
    """Tokens that are not spelt as ids cannot be compared."""
    named = part(7)
    named["choices"][0]["logprobs"]["tokens"] = ["the"]
    told = (await read(sse(events(named)))).streamed
    assert told.error is not None
    assert told.error.kind == "protocol"


async def test_a_silent_server_is_left_at_the_deadline() -> None:
    """No stream is waited for longer than its request allows."""
    streamed = Streamed()
    async with scripted(None) as server:
        await stream(
            server.connection.openai,
            GenerationRequest(**{**vars(REQUEST), "deadline_s": 0.5}),
            into=streamed,
            on_accepted=lambda: None,
            on_first_token=lambda: None,
        )
        with anyio.fail_after(60):
            await server.client_left.wait()
    assert streamed.error is not None
    assert streamed.error.kind == "timeout"


async def test_a_stream_has_the_tokens_of_the_answer_in_one_piece() -> None:
    """The same request, asked in both ways, gets the same answer."""
    streamed = Streamed()
    async with serve() as base_url, connect(base_url) as connection:
        await stream(
            connection.openai,
            REQUEST,
            into=streamed,
            on_accepted=lambda: None,
            on_first_token=lambda: None,
        )
        whole = await generate(connection.openai, REQUEST)
    assert tuple(streamed.token_ids) == whole.token_ids
    assert streamed.finish_reasons == [whole.finish_reason]
    assert streamed.completion_tokens == whole.completion_tokens
    assert streamed.text == whole.text
