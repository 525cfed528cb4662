"""A server that answers with exactly the bytes it is told to, or not at all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

from harness.vllm_api.connection import Connection, connect


@dataclass
class Scripted:
    """What it was sent, and who has left."""

    connection: Connection
    requests: list[dict[str, Any]] = field(default_factory=list)
    """The JSON body of each request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request, names in lower case."""
    client_left: anyio.Event = field(default_factory=anyio.Event)


@asynccontextmanager
async def scripted(raw_answer: bytes | None) -> AsyncIterator[Scripted]:
    """Serve ``raw_answer`` to whoever connects, then hang up; with ``None`` never answer."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's
        async with connect(f"http://127.0.0.1:{port}") as connection, anyio.create_task_group() as group:
            server = Scripted(connection)

            async def handle(stream: SocketStream) -> None:
                async with stream:
                    try:
                        headers, body = await _read_request(stream)
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        server.client_left.set()  # before it had sent everything
                        return
                    server.headers.append(headers)
                    server.requests.append(body)
                    if raw_answer is not None:
                        await stream.send(raw_answer)
                        return
                    try:
                        await stream.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        server.client_left.set()

            group.start_soon(listener.serve, handle)
            yield server
            group.cancel_scope.cancel()


def http(body: object, *, status: str = "200 OK") -> bytes:
    """A complete HTTP answer; ``body`` is sent as it is when it is bytes, as JSON otherwise."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + content


async def _read_request(stream: SocketStream) -> tuple[dict[str, str], dict[str, Any]]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive()
    head, _, body = received.partition(b"\r\n\r\n")
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    headers = {name.lower(): value for name, _, value in lines}
    while len(body) < int(headers.get("content-length", 0)):
        body += await stream.receive()
    return headers, json.loads(body) if body else {}
