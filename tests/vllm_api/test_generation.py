"""Generation and scoring: what is sent, and every way in which it can fail."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import anyio
import numpy as np
import pytest

from harness.errors import UsageError
from harness.vllm_api.chat import user_message
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.generation import Generation, GenerationRequest, generate, score
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.options import DEFAULT_MODEL, Options
from tests.fake_vllm.serving import serve
from tests.vllm_api.scripted import http, scripted

pytestmark = pytest.mark.anyio

DEADLINE_S = 30.0
"""For what must not take long, however busy the machine is."""

REQUEST = GenerationRequest(
    prompt_token_ids=(5, 6, 7), max_tokens=4, model=DEFAULT_MODEL, deadline_s=DEADLINE_S
)


def answer(**changes: Any) -> dict[str, Any]:
    """A completion of two tokens as vLLM sends it, with some fields changed."""
    logprobs = {
        "text_offset": [0, 11],
        "tokens": ["token_id:40", "token_id:2"],
        "token_logprobs": [-0.5, -9999.0],
        "top_logprobs": [
            {"token_id:40": -0.5, "token_id:41": -1.5},
            {"token_id:2": -9999.0, "token_id:9": -0.1},
        ],
    }
    choice = {"index": 0, "text": " the", "finish_reason": "stop", "stop_reason": None, "logprobs": logprobs}
    usage = {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}
    return {"choices": [{**choice, **changes.pop("choice", {})}], "usage": usage, **changes}


def chat_answer(**changes: Any) -> dict[str, Any]:
    """The same tokens as a chat, as vLLM sends it."""
    content = [
        {
            "token": "token_id:40",
            "logprob": -0.5,
            "top_logprobs": [
                {"token": "token_id:40", "logprob": -0.5},
                {"token": "token_id:41", "logprob": -1.5},
            ],
        },
        {
            "token": "token_id:2",
            "logprob": -9999.0,
            "top_logprobs": [
                {"token": "token_id:2", "logprob": -9999.0},
                {"token": "token_id:9", "logprob": -0.1},
            ],
        },
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": " the"},
        "finish_reason": "stop",
        "stop_reason": None,
        "logprobs": {"content": content},
    }
    usage = {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}
    return {"choices": [{**choice, **changes.pop("choice", {})}], "usage": usage, **changes}


SHOWN = replace(REQUEST, messages=(user_message("What is this?", picture="data:image/png;base64,AAAA"),))


async def test_a_picture_is_sent_as_a_chat() -> None:
    """Picture, then text, and the salt; one candidate more, as the taken token counts among them."""
    async with scripted(http(chat_answer())) as server:
        await generate(server.connection.openai, replace(SHOWN, cache_salt="salt", top_logprobs=2))
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "What is this?"},
    ]
    assert server.requests == [
        {
            "model": DEFAULT_MODEL,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 4,
            "temperature": 0.0,
            "seed": None,
            "cache_salt": "salt",
            "logprobs": True,
            "top_logprobs": 3,
            "return_tokens_as_token_ids": True,
        }
    ]


async def test_a_chat_reads_as_a_completion_does() -> None:
    """The same tokens, text, end, counts and candidates, whichever way they came."""
    async with scripted(http(chat_answer())) as server:
        chat = await generate(server.connection.openai, SHOWN)
    completion = await generate_from(answer())
    assert chat.error is None
    assert (chat.token_ids, chat.text, chat.finish_reason) == ((40, 2), " the", "stop")
    assert (chat.token_ids, chat.text, chat.prompt_tokens) == (
        completion.token_ids,
        completion.text,
        completion.prompt_tokens,
    )
    np.testing.assert_array_equal(chat.top_ids, completion.top_ids)
    np.testing.assert_array_equal(chat.top_logprobs, completion.top_logprobs)
    np.testing.assert_array_equal(chat.chosen_logprobs, completion.chosen_logprobs)


async def test_a_chat_without_logprobs_is_no_answer() -> None:
    """What does not have the shape is an error of its own kind."""
    async with scripted(http(chat_answer(choice={"logprobs": None}))) as server:
        chat = await generate(server.connection.openai, SHOWN)
    assert chat.error is not None
    assert chat.error.kind == "protocol"


async def generate_from(body: object, *, status: str = "200 OK") -> Generation:
    """What becomes of this answer."""
    async with scripted(http(body, status=status)) as server:
        return await generate(server.connection.openai, REQUEST)


async def test_the_request_carries_ids_and_asks_for_ids() -> None:
    """The body has the token ids as prompt and asks for tokens as ids; nothing else is added."""
    request = GenerationRequest(
        prompt_token_ids=(5, 6),
        max_tokens=4,
        model="adapter",
        deadline_s=DEADLINE_S,
        temperature=0.5,
        seed=3,
        cache_salt="salt",
        top_logprobs=2,
        extra={"ignore_eos": True},
    )
    async with scripted(http(answer())) as server:
        await generate(server.connection.openai, request)
    assert server.requests == [
        {
            "model": "adapter",
            "prompt": [5, 6],
            "max_tokens": 4,
            "temperature": 0.5,
            "seed": 3,
            "cache_salt": "salt",
            "logprobs": 2,
            "return_tokens_as_token_ids": True,
            "ignore_eos": True,
        }
    ]


async def test_what_a_server_does_not_tell_is_none() -> None:
    """Fields that only some servers send are ``None`` where they are missing."""
    generation = await generate_from(answer())
    assert generation.error is None
    assert generation.cached_tokens is None
    assert generation.system_fingerprint is None
    assert generation.token_ids == (40, 2)


async def test_sentinels_and_padding_are_kept() -> None:
    """VLLM's -9999 for minus infinity arrives as it is; rows with fewer candidates are padded."""
    generation = await generate_from(answer())
    np.testing.assert_array_equal(generation.chosen_logprobs, np.array([-0.5, -9999.0], dtype=np.float32))
    np.testing.assert_array_equal(generation.top_ids, [[40, 41, -1, -1, -1], [9, 2, -1, -1, -1]])
    assert np.isneginf(generation.top_logprobs[:, 2:]).all()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "EOF"),
        (b"<html>", "expected value"),
        ({}, "choices"),
        (answer(choices=[]), "choices"),
        (answer(choice={"logprobs": None}), "logprobs"),
        (
            answer(choice={"logprobs": {"tokens": ["token_id:1"], "token_logprobs": [], "top_logprobs": []}}),
            "1 tokens",
        ),
        (
            answer(choice={"logprobs": {"tokens": [" 12"], "token_logprobs": [0], "top_logprobs": [{}]}}),
            "not spelt token_id:N",
        ),
        (
            answer(
                choice={
                    "logprobs": {"tokens": [f"token_id:{2**31}"], "token_logprobs": [0], "top_logprobs": [{}]}
                }
            ),
            "less than",
        ),
        (answer(usage=None), "usage"),
    ],
    ids=str,
)
async def test_a_malformed_answer_is_a_protocol_error(body: object, complaint: str) -> None:
    """A 200 without the promised contents is an error that names what is wrong, and has no tokens."""
    generation = await generate_from(body)
    assert generation.error is not None
    assert (generation.error.kind, generation.error.status) == ("protocol", 200)
    assert complaint in generation.error.message
    assert generation.token_ids == ()


async def test_an_http_error_keeps_status_and_words() -> None:
    """A status of 400 or above is an error with vLLM's own message."""
    body = {"error": {"message": "out of range", "type": "BadRequestError", "param": None, "code": 400}}
    generation = await generate_from(body, status="400 Bad Request")
    assert generation.error is not None
    assert (generation.error.kind, generation.error.status) == ("http", 400)
    assert generation.error.message == "out of range"


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Internal Server Error", "503 Unavailable"])
async def test_nothing_is_retried(status: str) -> None:
    """Statuses that clients like to retry are reported after one request."""
    async with scripted(http({}, status=status)) as server:
        generation = await generate(server.connection.openai, REQUEST)
    assert generation.error is not None
    assert generation.error.status == int(status[:3])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], ids=["none", "half"]
)
async def test_a_broken_connection_is_an_error(raw: bytes) -> None:
    """A server that hangs up before its answer is complete is a connection error, once."""
    async with scripted(raw) as server:
        generation = await generate(server.connection.openai, REQUEST)
    assert generation.error is not None
    assert (generation.error.kind, generation.error.status) == ("connection", None)
    assert len(server.requests) == 1


async def test_nobody_there_is_a_connection_error() -> None:
    """A port on which nobody listens is an error at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with connect(f"http://127.0.0.1:{unused.getsockname()[1]}") as connection:
            generation = await generate(connection.openai, REQUEST)
    assert generation.error is not None
    assert generation.error.kind == "connection"


async def test_a_request_that_hangs_ends_at_its_deadline() -> None:
    """No answer within the deadline is a timeout, however much a busy machine has sent by then."""
    request = GenerationRequest(prompt_token_ids=(5,), max_tokens=1, model="m", deadline_s=0.05)
    async with scripted(None) as server:
        generation = await generate(server.connection.openai, request)
    assert generation.error is not None
    assert generation.error.kind == "timeout"
    assert "0.05 s" in generation.error.message
    assert generation.seconds >= 0.05


async def test_cancellation_passes_through() -> None:
    """A cancelled generation closes its connection and returns nothing."""
    async with scripted(None) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(generate, server.connection.openai, REQUEST)
            with anyio.fail_after(DEADLINE_S):
                while not server.requests:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        with anyio.fail_after(DEADLINE_S):
            await server.client_left.wait()


async def test_an_outer_deadline_is_not_mistaken_for_its_own(fake: Connection) -> None:
    """When the caller's own scope ends first, the caller's scope ends it, not an error value."""
    async with serve(Options(misbehaviour=Misbehaviour({Behaviour.HANG: 0}))) as url, connect(url) as hanging:
        with anyio.move_on_after(0.05) as scope:
            await generate(hanging.openai, REQUEST)
    assert scope.cancelled_caught
    assert (await generate(fake.openai, REQUEST)).error is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt_token_ids", ()),
        ("max_tokens", 0),
        ("deadline_s", 0),
        ("temperature", -0.1),
        ("top_logprobs", 0),
        ("cache_salt", ""),
    ],
)
def test_a_request_that_makes_no_sense_is_not_sent(field: str, value: object) -> None:
    """Mistakes of the caller are told before anything is sent."""
    fields: dict[str, Any] = {
        "prompt_token_ids": (5,),
        "max_tokens": 1,
        "model": "m",
        "deadline_s": DEADLINE_S,
    }
    with pytest.raises(UsageError):
        GenerationRequest(**{**fields, field: value})


async def test_a_result_cannot_be_changed(fake: Connection) -> None:
    """Arrays of a result are read-only: a history is what happened."""
    generation = await generate(fake.openai, REQUEST)
    with pytest.raises(ValueError, match="read-only"):
        generation.chosen_logprobs[0] = 0


class TestScoring:
    """``score`` reads ``prompt_logprobs``."""

    async def test_rows_are_about_the_tokens_after_the_first(self, fake: Connection) -> None:
        """Three prompt tokens have two rows, each with the given token's own log-probability."""
        scoring = await score(
            fake.openai, (5, 6, 7), model=DEFAULT_MODEL, deadline_s=DEADLINE_S, top_logprobs=3
        )
        assert scoring.error is None
        assert scoring.token_ids == (6, 7)
        assert scoring.chosen_logprobs.shape == (2,)
        assert scoring.top_ids.shape == scoring.top_logprobs.shape == (2, 3)

    async def test_one_token_has_nothing_to_score(self, fake: Connection) -> None:
        """A prompt of one token has no rows and no error."""
        scoring = await score(fake.openai, (5,), model=DEFAULT_MODEL, deadline_s=DEADLINE_S)
        assert scoring.error is None
        assert scoring.chosen_logprobs.shape == (0,)

    @pytest.mark.parametrize(
        ("prompt_logprobs", "complaint"),
        [
            (None, "prompt_logprobs"),
            ([None], "1 prompt_logprobs for 2 prompt tokens"),
            ([None, {"9": {"logprob": -1.0, "rank": 1, "decoded_token": "x"}}], "omit prompt token 6"),
        ],
    )
    async def test_a_malformed_answer_is_a_protocol_error(
        self, prompt_logprobs: object, complaint: str
    ) -> None:
        """Missing rows, and rows about other tokens, are errors."""
        body = answer(choice={"prompt_logprobs": prompt_logprobs})
        async with scripted(http(body)) as server:
            scoring = await score(server.connection.openai, (5, 6), model="m", deadline_s=DEADLINE_S)
        assert scoring.error is not None
        assert scoring.error.kind == "protocol"
        assert complaint in scoring.error.message
