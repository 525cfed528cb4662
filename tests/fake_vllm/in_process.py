"""The fake in the event loop that asks it, over connections that are no sockets.

What it takes is what computing its answers takes: no process is started, nothing is waited for, and on a loop
with a clock of its own (:mod:`tests.virtual_time`) nothing depends on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn

import anyio
import pytest
from anyio.abc import ByteStream
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from harness.reaching import NOTHING_SPECIAL, Access
from harness.redaction import shell_command
from harness.servers.base import (
    Activity,
    Engine,
    KeptServer,
    MachineTimes,
    Memory,
    RuntimeName,
    Server,
    ServerFacts,
    ServerSpec,
)
from harness.servers.flags import server_args, server_env
from harness.servers.readiness import boot_error, wait_until_ready
from tests.fake_vllm import ballast
from tests.fake_vllm.app import create_app
from tests.fake_vllm.behaviours import Behaviour
from tests.fake_vllm.engine import Engine as FakeEngine
from tests.fake_vllm.options import Options
from tests.fake_vllm.serving import config

HOST = "fake.test"
"""Only :func:`install` knows it; a server is told from another by its port."""

_IDLE_BYTES = 100 * 1024 * 1024
"""What a process without weights and blocks would take."""

_ENGINE_COMMAND = ("python", "-m", "tests.fake_vllm")

_connect_tcp = anyio.connect_tcp


class ExitedError(BaseException):
    """Where a process would have ended; Starlette lets pass what is no Exception."""


class InProcessServer:
    """One fake, from its start to its end."""

    def __init__(self, spec: ServerSpec, *, port: int) -> None:
        arguments = server_args(spec, "cpu", engine_command=_ENGINE_COMMAND, host=HOST, port=str(port))
        environment = {**os.environ, **server_env(spec, "cpu")}
        self.options = Options.parse(arguments, environment, exit_process=self._exit)
        self.facts = ServerFacts(
            runtime="process",
            engine="cpu",
            base_url=f"http://{HOST}:{port}",
            command=shell_command((*_ENGINE_COMMAND, *arguments), {}),
        )
        self._engine = FakeEngine(self.options)
        self._app = create_app(self.options, self._engine)
        self._config = config(self.options, self._app)
        self._config.load()
        self._state = ServerState()
        self._exit_code: int | None = None

    @property
    def access(self) -> Access:
        """Nothing: it is ours."""
        return NOTHING_SPECIAL

    @property
    def base_url(self) -> str:
        """Its address, which is none outside this process."""
        return self.facts.base_url

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the block is left; then every connection is closed and every request given up."""
        async with self._app.router.lifespan_context(self._app):
            try:
                yield
            finally:
                self._hang_up()
                tasks = [*self._state.tasks]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def connect(self) -> ByteStream:
        """A connection to it.

        Raises:
            ConnectionRefusedError: it has exited.
        """
        if self._exit_code is not None:
            raise ConnectionRefusedError(f"{self.base_url} has exited")
        return _Wire(H11Protocol(self._config, self._state, app_state={})).client

    async def measure_memory(self) -> Memory:
        """What a process of this fake would take."""
        if self._exit_code is not None:
            return Memory(resident=None, device=None)
        parts = {"weights": ballast.WEIGHTS, "kv_cache": ballast.KV_CACHE}
        awake = sum(size for part, size in parts.items() if part not in self._engine.memory.sleeping)
        return Memory(resident=_IDLE_BYTES + awake, device=None)

    async def look_at_activity(self) -> Activity:
        """It does nothing while it counts nothing."""
        tokens = self._engine.scheduler.counters.generation_tokens
        return Activity(cpu_seconds=0.001 * tokens, wants_cpu=False)

    async def look_at_machine(self) -> MachineTimes:
        """A machine on which nobody else does anything, nor does anything take it time."""
        return MachineTimes(cores=2, busy_seconds=0.0, own_seconds=0.0, engine_seconds=0.0)

    async def death(self) -> str | None:
        """Why it is gone."""
        return None if self._exit_code is None else f"exit code {self._exit_code}"

    def log_tail(self, lines: int = 40) -> str:  # noqa: ARG002 - it logs nothing
        """Nothing."""
        return ""

    def _exit(self, code: int) -> NoReturn:
        self._exit_code = code
        self._hang_up()
        raise ExitedError

    def _hang_up(self) -> None:
        for protocol in list(self._state.connections):
            protocol.transport.abort()


class _Wire(asyncio.Transport):
    """A connection as the server sees it, and as its client does."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.client = _ClientEnd(self)
        self._closed = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.client.deliver(bytes(data))

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.client.deliver(b"")
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def pause_reading(self) -> None:
        """Nothing is ever so much that it would have to wait."""

    def resume_reading(self) -> None:
        """See :meth:`pause_reading`."""


class _ClientEnd(ByteStream):
    """A connection as its client sees it."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._received = bytearray()
        self._ended = False
        self._news = asyncio.Event()

    def deliver(self, data: bytes) -> None:
        """Take what the server sent; nothing is its end."""
        self._received += data
        self._ended = self._ended or not data
        self._news.set()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while not self._received and not self._ended:
            self._news.clear()
            await self._news.wait()
        if not self._received:
            raise anyio.EndOfStream
        taken = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        return taken

    async def send(self, item: bytes) -> None:
        if self._wire.is_closing():
            raise anyio.BrokenResourceError
        self._wire.protocol.data_received(item)

    async def send_eof(self) -> None:
        """HTTP needs none."""

    async def aclose(self) -> None:
        self._wire.close()


class InProcessRuntime:
    """Starts fakes in the running event loop; remembers for which cells."""

    name: RuntimeName = "process"
    engine: Engine = "cpu"
    can_restart = True
    kept: Sequence[KeptServer] = ()

    def __init__(self) -> None:
        self.booted: list[str] = []
        self.running: dict[int, InProcessServer] = {}
        """By port."""
        self._ports = itertools.count(1)

    def check_available(self) -> None:
        """It always is."""

    def command(self, spec: ServerSpec) -> str:
        """What it would be as a process."""
        return " ".join(
            (
                *_ENGINE_COMMAND,
                *server_args(spec, "cpu", engine_command=_ENGINE_COMMAND, host=HOST, port="PORT"),
            )
        )

    def sweep(self) -> list[str]:
        """Nothing of it outlives this process."""
        return []

    def start(self, spec: ServerSpec) -> AbstractAsyncContextManager[Server]:
        """Start one, which ends when the block is left."""
        return self._start(spec)

    @asynccontextmanager
    async def _start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        self.booted.append(spec.cell)
        port = next(self._ports)
        server = InProcessServer(spec, port=port)
        if Behaviour.DIE_AT_BOOT in server.options.misbehaviour:
            raise boot_error("the server died while starting: exit code 1", "")
        self.running[port] = server
        try:
            async with server.running():
                await wait_until_ready(
                    base_url=server.base_url, deadline_s=spec.boot_deadline_s, log_tail=server.log_tail
                )
                yield server
        finally:
            del self.running[port]


def install(runtime: InProcessRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let its servers be reached by whatever connects with :func:`anyio.connect_tcp`."""

    async def connect_tcp(remote_host: str, remote_port: int, **options: object) -> ByteStream:
        if remote_host != HOST:
            return await _connect_tcp(remote_host, remote_port, **options)  # type: ignore[call-overload,no-any-return]  # passed on as it came
        if (server := runtime.running.get(remote_port)) is None:
            raise ConnectionRefusedError(f"nothing listens at {remote_host}:{remote_port}")
        return server.connect()

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
