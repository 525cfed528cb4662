"""Broken servers and what stands before servers: each is refused in words, in time and within bounds."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from harness.drive.guest import asking
from harness.drive.guest.asking import require_fit
from harness.errors import RuntimeUnavailableError
from harness.reaching import Access, headers_of
from harness.vllm_api.connection import connect
from tests.drive.guest.broken import BROKEN, MIB, Speaks, says
from tests.vllm_api.scripted import http

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(speak: Speaks, seen: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that speaks like this, and notes what it was sent in ``seen``; gives its address."""
    noted = [] if seen is None else seen
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):

        async def handle(stream: SocketStream) -> None:
            async with stream:
                try:
                    noted.append(await stream.receive())
                    await speak(stream)
                except (anyio.BrokenResourceError, anyio.EndOfStream):
                    pass

        group.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 - anyio's
        group.cancel_scope.cancel()


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_server_is_refused_in_words(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is done to it, within the deadline, and in no more memory than an answer may take."""
    speak, words = BROKEN[kind]
    monkeypatch.setattr(asking, "LOOK_DEADLINE_S", 1.0 if "no answer" in words else 60.0)
    access = Access(headers=headers_of((), api_key="the-key"))
    async with served(speak) as endpoint, connect(endpoint, access=access) as connection:
        tracemalloc.start()
        with pytest.raises(RuntimeUnavailableError, match=words) as refused:
            await require_fit(connection, allow_busy=False)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 150 * MIB
    assert refused.value.remedy
    assert "the-key" not in str(refused.value)
    assert "t0" not in str(refused.value)


async def test_a_server_without_tls_where_it_is_expected_is_refused() -> None:
    """Plain HTTP behind an https address is no secure connection."""
    async with (
        served(says(http({}))) as endpoint,
        connect(endpoint.replace("http:", "https:")) as connection,
    ):
        with pytest.raises(RuntimeUnavailableError, match="no secure connection"):
            await require_fit(connection, allow_busy=False)


async def test_several_servers_behind_one_address_are_refused() -> None:
    """What is asked of one would be put to sleep in another, so it is said and nothing is done."""
    answers = itertools.cycle((b"1700000000.5", b"1700000001.5"))

    async def balance(stream: SocketStream) -> None:
        name = b"process_start_time_seconds"
        metrics = b"# TYPE " + name + b" gauge\n" + name + b" " + next(answers) + b"\n"
        await stream.send(http(metrics if b"/metrics" in seen[-1] else {"is_sleeping": False}))

    seen: list[bytes] = []
    async with served(balance, seen) as endpoint, connect(endpoint) as connection:
        with pytest.raises(RuntimeUnavailableError, match="2 servers answer"):
            await require_fit(connection, allow_busy=True)
