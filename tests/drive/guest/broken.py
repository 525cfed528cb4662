"""Ways in which a server, or what stands before it, is broken: what it says to whoever connects."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import SocketStream

from tests.vllm_api.scripted import http

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
