"""Runs the fake inside the current event loop, on a port of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from tests.fake_vllm.app import create_app
from tests.fake_vllm.options import Options


def config(options: Options, app: Starlette | None = None) -> uvicorn.Config:
    """How uvicorn serves the fake: quietly, and without waiting for requests that hang when it ends."""
    return uvicorn.Config(
        app or create_app(options),
        host=options.host,
        port=options.port,
        log_level="critical",
        timeout_graceful_shutdown=0,
        lifespan="on",
    )


@asynccontextmanager
async def serve(options: Options | None = None) -> AsyncIterator[str]:
    """Serve on a free loopback port; gives the base URL."""
    # Named as TCP, or asyncio leaves Nagle's algorithm on and every answer takes 40 ms.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = _GuestServer(config(options or Options()))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


class _GuestServer(uvicorn.Server):
    """Leaves signal handling to the program it is a guest of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
