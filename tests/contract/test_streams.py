"""Streams across what is done to the engine meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from harness.vllm_api import lifecycle
from harness.vllm_api.streaming import Streamed, stream
from tests.contract.conftest import CALL_DEADLINE_S, Subject
from tests.contract.test_sleep import eventually, is_idle, let_arrive

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def streaming(subject: Subject, *, running: bool = True) -> AsyncIterator[Streamed]:
    """A long answer on its way: its first token has come, or where the engine rests the server has it."""
    streamed, accepted, begun = Streamed(), anyio.Event(), anyio.Event()
    request = subject.request(max_tokens=subject.long_answer, extra={"ignore_eos": True})

    async def read() -> None:
        await stream(
            subject.connection.openai,
            request,
            into=streamed,
            on_accepted=accepted.set,
            on_first_token=begun.set,
        )

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await (begun if running else accepted).wait()
        await let_arrive(subject)
        yield streamed


async def test_a_stream_is_what_one_answer_would_be(subject: Subject) -> None:
    """Token for token, with one finish reason and the server's count of tokens."""
    whole = await subject.generate_long()
    async with streaming(subject) as streamed:
        pass
    assert streamed.error is None
    assert tuple(streamed.token_ids) == whole.token_ids
    assert streamed.finish_reasons == [whole.finish_reason]
    assert streamed.completion_tokens == whole.completion_tokens


async def test_an_aborted_stream_says_so_after_its_last_token(subject: Subject) -> None:
    """Falling asleep ends it with the finish reason ``abort`` and what it had."""
    async with streaming(subject) as streamed:
        await subject.sleep(1, mode="abort")
    await subject.wake_up()
    assert streamed.error is None
    assert streamed.finish_reasons == ["abort"]
    assert streamed.tokens_after_end == 0
    assert 0 < len(streamed.token_ids) < subject.long_answer
    assert streamed.completion_tokens == len(streamed.token_ids)


async def test_requests_can_be_aborted_without_a_pause(subject: Subject) -> None:
    """Each ends with the finish reason ``abort`` and what it had; the engine goes on at once."""
    before = await subject.generate()
    async with streaming(subject) as streamed:
        aborted = await lifecycle.abort_requests(subject.connection.http, deadline_s=CALL_DEADLINE_S)
    assert aborted.body == {"status": "aborted", "aborted": 1}
    assert streamed.finish_reasons == ["abort"]
    assert 0 < len(streamed.token_ids) < subject.long_answer
    assert await subject.is_sleeping() is False
    assert (await subject.generate()).token_ids == before.token_ids


@pytest.mark.parametrize("level", [0, 1])
async def test_a_kept_stream_stands_still_and_goes_on(subject: Subject, level: lifecycle.SleepLevel) -> None:
    """Every token comes once, whether its blocks were taken away meanwhile or not."""
    whole = await subject.generate_long()
    async with streaming(subject) as streamed:
        await subject.sleep(level, mode="keep")
        await let_arrive(subject)  # what was on its way when the call returned
        had = len(streamed.token_ids)
        await let_arrive(subject)
        assert len(streamed.token_ids) == had < subject.long_answer
        await subject.wake_up()
    assert streamed.error is None
    assert tuple(streamed.token_ids) == whole.token_ids
    assert streamed.finish_reasons == [whole.finish_reason]


async def test_a_stream_aborted_before_its_first_token_ends_without_a_reason(subject: Subject) -> None:
    """A finish reason is told beside a token only: who waited for a sleeper gets an end and no more."""
    await subject.sleep(1)
    async with streaming(subject, running=False) as streamed:
        await subject.sleep(1, mode="abort")
    await subject.wake_up()
    assert streamed.complete
    assert streamed.token_ids == []
    assert streamed.finish_reasons == []


async def test_who_leaves_a_stream_is_forgotten(subject: Subject) -> None:
    """Closing the connection frees the engine of the request."""
    async with anyio.create_task_group() as group:

        async def leave() -> None:
            async with streaming(subject):
                group.cancel_scope.cancel()

        group.start_soon(leave)
    await subject.generate(cache_salt="after")
    await eventually(lambda: is_idle(subject))
