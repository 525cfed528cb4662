"""Misbehaviour of the process and of the API, each as the harness meets it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from harness.vllm_api import lifecycle
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.generation import Generation, GenerationRequest, generate
from harness.vllm_api.metrics import read_metrics
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.options import DEFAULT_MODEL, Options
from tests.fake_vllm.serving import serve

pytestmark = pytest.mark.anyio

_DEADLINE_S = 30.0


@asynccontextmanager
async def misbehaving(behaviour: Behaviour) -> AsyncIterator[Connection]:
    """A fake that does this wrong."""
    async with (
        serve(Options(misbehaviour=Misbehaviour({behaviour: 0}))) as url,
        connect(url) as connection,
    ):
        yield connection


async def ask(connection: Connection, *, deadline_s: float = _DEADLINE_S) -> Generation:
    """One short answer."""
    request = GenerationRequest(
        prompt_token_ids=(5, 6, 7), max_tokens=4, model=DEFAULT_MODEL, deadline_s=deadline_s
    )
    return await generate(connection.openai, request)


async def cycle(connection: Connection) -> None:
    """Sleep and wake up."""
    await lifecycle.sleep(connection.http, level=1, deadline_s=_DEADLINE_S)
    await lifecycle.wake_up(connection.http, deadline_s=_DEADLINE_S)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Behaviour.HANG_AFTER_WAKE, "timeout"),
        (Behaviour.ERROR_AFTER_WAKE, "http"),
        (Behaviour.EMPTY_AFTER_WAKE, "protocol"),
    ],
)
async def test_answers_fail_after_the_first_wake_up(behaviour: Behaviour, kind: str) -> None:
    """Healthy before, then failing in the given way, with ``/health`` green throughout."""
    async with misbehaving(behaviour) as connection:
        assert (await ask(connection)).error is None
        await cycle(connection)
        answer = await ask(connection, deadline_s=0.2 if kind == "timeout" else _DEADLINE_S)
        assert answer.error is not None
        assert answer.error.kind == kind
        assert (await lifecycle.health(connection.http, deadline_s=_DEADLINE_S)).ok


async def test_hanging_begins_with_the_first_request() -> None:
    """An engine may hang from the start."""
    async with misbehaving(Behaviour.HANG) as connection:
        answer = await ask(connection, deadline_s=0.1)
    assert answer.error is not None
    assert answer.error.kind == "timeout"


async def test_usage_is_miscounted_after_the_first_wake_up() -> None:
    """The server's count and the tokens disagree by one."""
    async with misbehaving(Behaviour.WRONG_USAGE_AFTER_WAKE) as connection:
        before = await ask(connection)
        await cycle(connection)
        after = await ask(connection)
    assert before.completion_tokens == len(before.token_ids) == 4
    assert after.completion_tokens == len(after.token_ids) + 1 == 5


async def test_the_fingerprint_drifts_after_the_first_wake_up() -> None:
    """The server says that it is another one."""
    async with misbehaving(Behaviour.FINGERPRINT_AFTER_WAKE) as connection:
        before = await ask(connection)
        await cycle(connection)
        assert (await ask(connection)).system_fingerprint != before.system_fingerprint


async def test_a_200_for_sleeping_proves_nothing() -> None:
    """A server that only says it sleeps is given away by everything else."""
    async with misbehaving(Behaviour.SLEEP_DOES_NOTHING) as connection:
        slept = await lifecycle.sleep(connection.http, level=1, deadline_s=_DEADLINE_S)
        asked = await lifecycle.is_sleeping(connection.http, deadline_s=_DEADLINE_S)
        metrics = await read_metrics(connection.http, deadline_s=_DEADLINE_S)
    assert slept.body == {"status": "sleeping", "level": 1}
    assert asked.field("is_sleeping") is False
    assert metrics.snapshot is not None
    assert metrics.snapshot.sleep_state == "awake"


async def test_a_server_may_never_be_ready() -> None:
    """It listens, and its health stays 503."""
    async with misbehaving(Behaviour.NEVER_READY) as connection:
        assert (await lifecycle.health(connection.http, deadline_s=_DEADLINE_S)).status == 503
