"""Fake servers in threads, for tests whose own code blocks: commands, and pytest inside pytest."""

from __future__ import annotations

import socket
import threading
from typing import Self

import uvicorn

from tests.fake_vllm.behaviours import Misbehaviour
from tests.fake_vllm.options import Options
from tests.fake_vllm.serving import config


class Served:
    """Fake servers in threads of this process, each at an address of its own."""

    def __init__(self) -> None:
        self._running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(self, misbehaviour: Misbehaviour | None = None) -> str:
        """Start one; return its address."""
        server = uvicorn.Server(config(Options(port=0, misbehaviour=misbehaviour or Misbehaviour({}))))
        ready = threading.Event()
        startup = server.startup

        async def tell(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets)
            ready.set()

        server.startup = tell  # type: ignore[method-assign]  # uvicorn tells nobody else
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        assert ready.wait(20)
        self._running.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop them all."""
        for server, thread in self._running:
            server.should_exit = True
            thread.join(20)
