"""Pausing without sleeping, and giving the KV cache's memory back."""

from __future__ import annotations

import pytest

from harness.vllm_api import lifecycle
from tests.contract.conftest import CALL_DEADLINE_S, Subject
from tests.contract.test_generation import assert_same, assert_same_tokens

pytestmark = pytest.mark.anyio


async def test_pausing_shows_and_resuming_ends_it(subject: Subject) -> None:
    """A paused engine says so, counts as sleeping, and stays awake in the metrics."""
    http = subject.connection.http
    paused = await lifecycle.pause(http, deadline_s=CALL_DEADLINE_S)
    assert paused.body == {"status": "paused"}
    asked = await lifecycle.is_paused(http, deadline_s=CALL_DEADLINE_S)
    assert asked.field("is_paused") is True
    assert await subject.is_sleeping() is True
    assert (await subject.metrics()).sleep_state == "awake"
    resumed = await lifecycle.resume(http, deadline_s=CALL_DEADLINE_S)
    assert resumed.body == {"status": "resumed"}
    assert await subject.is_sleeping() is False


@pytest.mark.parametrize("clear_cache", [True, False])
async def test_pausing_clears_the_cache_when_asked(subject: Subject, *, clear_cache: bool) -> None:
    """The prefix cache survives a pause exactly when it is told not to clear it."""
    http = subject.connection.http
    before = await subject.generate()
    await lifecycle.pause(http, clear_cache=clear_cache, deadline_s=CALL_DEADLINE_S)
    await lifecycle.resume(http, deadline_s=CALL_DEADLINE_S)
    after = await subject.generate()
    assert (after.cached_tokens == 0) == clear_cache
    assert_same_tokens(after, before)


async def test_releasing_the_cache_needs_a_pause(subject: Subject) -> None:
    """An engine that is not paused refuses with HTTP 500 and goes on."""
    before = await subject.generate()
    refused = await lifecycle.release_kv_cache_memory(subject.connection.http, deadline_s=CALL_DEADLINE_S)
    assert refused.status == 500
    assert_same(await subject.generate(cache_salt="after"), before)


async def test_releasing_the_cache_forgets_it(subject: Subject) -> None:
    """Its memory given back while paused, the engine sleeps until woken and then starts cold."""
    http = subject.connection.http
    before = await subject.generate()
    await lifecycle.pause(http, clear_cache=False, deadline_s=CALL_DEADLINE_S)
    released = await lifecycle.release_kv_cache_memory(http, deadline_s=CALL_DEADLINE_S)
    assert released.body == {"status": "kv_cache_released"}
    assert (await subject.metrics()).sleep_state == "paused"
    await lifecycle.wake_up(http, deadline_s=CALL_DEADLINE_S)
    after = await subject.generate()
    assert after.cached_tokens == 0
    assert_same(after, before)
