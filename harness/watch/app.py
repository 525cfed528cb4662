"""What a watch answers over HTTP: metrics, and whether the server may be given requests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import anyio
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from harness.errors import UsageError
from harness.watch.metrics import exposition, registry_of
from harness.watch.status import Status

_HIGHEST_PORT = 65535


def create_app(status: Status) -> Starlette:
    """``/metrics``, ``/ready`` and ``/live``."""
    registry = registry_of(status)

    async def metrics(_: Request) -> Response:
        return Response(exposition(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def ready(_: Request) -> Response:
        reason = status.not_ready
        code = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
        return PlainTextResponse(f"{reason or 'sound'}\n", status_code=code)

    async def live(_: Request) -> Response:
        return PlainTextResponse("watching\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/ready", ready), Route("/live", live)])


def listener(address: str) -> socket.socket:
    """A socket that listens at ``HOST:PORT``; the host of IPv6 is in brackets.

    Raises:
        UsageError: it is no such address, or somebody else listens there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise UsageError(f"--listen: {address!r} is not HOST:PORT", remedy="for example 127.0.0.1:9109")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise UsageError(
            f"--listen: cannot listen at {address}: {error}", remedy="give another port"
        ) from error


async def serve(status: Status, listening: socket.socket) -> None:
    """Answer at ``listening`` until cancelled; signals are for the watch itself."""
    config = uvicorn.Config(
        create_app(status), log_level="critical", lifespan="off", timeout_graceful_shutdown=0
    )
    server = _Guest(config)
    try:
        await server.serve(sockets=[listening])
    finally:
        if server.started:
            with anyio.CancelScope(shield=True):
                await server.shutdown(sockets=[listening])


class _Guest(uvicorn.Server):
    """Leaves signals to the program it is a guest of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
