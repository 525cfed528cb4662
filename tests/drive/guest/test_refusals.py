"""Broken servers and what stands before servers: each is refused in words, in time and within bounds."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from harness.drive.guest import asking
from harness.drive.guest.asking import require_fit
from harness.errors import RuntimeUnavailableError
from harness.reaching import Access, headers_of
from harness.vllm_api.connection import connect
from tests.vllm_api.scripted import http

pytestmark = pytest.mark.anyio

Speaks = Callable[[SocketStream], Awaitable[None]]
MIB = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


def says(answer: bytes) -> Speaks:
    """One answer to everything."""

    async def speak(stream: SocketStream) -> None:
        await stream.send(answer)

    return speak


async def hangs(_: SocketStream) -> None:
    """Never say anything."""
    await anyio.sleep_forever()


async def drips(stream: SocketStream) -> None:
    """Say a byte now and then, for ever."""
    await stream.send(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while True:
        await anyio.sleep(0.05)
        await stream.send(b" ")


async def floods(stream: SocketStream) -> None:
    """Say a gigabyte."""
    await stream.send(HEAD + b"Content-Length: 1073741824\r\n\r\n")
    for _ in range(1024):
        await stream.send(b" " * MIB)


async def floods_in_chunks(stream: SocketStream) -> None:
    """The same without saying how much it will be."""
    await stream.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(1024):
        await stream.send(b"100000\r\n" + b" " * MIB + b"\r\n")


async def floods_in_headers(stream: SocketStream) -> None:
    """Headers without end."""
    await stream.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        await stream.send(f"X-{number}: {'x' * 1000}\r\n".encode())


def compressed(content: bytes) -> bytes:
    """A body that becomes larger once it is read."""
    body = gzip.compress(content)
    return HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def redirect(to: str) -> bytes:
    """Send them elsewhere."""
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


BROKEN: dict[str, tuple[Speaks, str]] = {
    "no key": (says(http({"error": "Unauthorized"}, status="401 Unauthorized")), "401: it wants a key"),
    "wrong key": (says(http({}, status="403 Forbidden")), "403: the key does not allow"),
    "wrong path": (says(http({"detail": "Not Found"}, status="404 Not Found")), "404: there is nothing"),
    "rate limit": (says(http({}, status="429 Too Many Requests")), "429: it allows no more"),
    "broken": (says(http({}, status="500 Internal Server Error")), "500: it is broken"),
    "no backend": (says(http(b"<html>", status="502 Bad Gateway")), "502: it is broken"),
    "starting": (says(http({}, status="503 Service Unavailable")), "503: it is broken"),
    "teapot": (says(http({"detail": "tea"}, status="418 I'm a teapot")), "418: tea"),
    "unknown status": (says(http({}, status="599 What")), "599: it is broken"),
    "page": (says(http(b"<!doctype html><title>Welcome</title>")), "a web page"),
    "other server": (says(http({"status": "ok"})), "not as vLLM does"),
    "list": (says(http([1, 2])), "not as vLLM does"),
    "no number": (says(http(b'{"is_sleeping": NaN}')), "not as vLLM does"),
    "text": (says(http(b"OK")), "not as vLLM does"),
    "redirect": (
        says(redirect("https://elsewhere/login?token=t0")),
        r"redirects to https://elsewhere/login,",
    ),
    "circle": (says(redirect("/health")), "redirects to"),
    "hangs up": (says(b""), "does not answer"),
    "half an answer": (says(http({})[:-1]), "does not answer"),
    "no HTTP": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not answer"),
    "hangs": (hangs, "no answer within"),
    "drips": (drips, "no answer within"),
    "a gigabyte": (floods, "more than 32 MiB"),
    "a gigabyte in chunks": (floods_in_chunks, "more than 32 MiB"),
    "headers without end": (floods_in_headers, "does not answer"),
    "gzip bomb": (says(compressed(b" " * 64 * MIB)), "compressed"),
}


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
