"""The attached runtime: a server somebody else runs, such as a Kubernetes deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from harness.errors import UsageError
from harness.reaching import NOTHING_SPECIAL, Access
from harness.servers.base import (
    Activity,
    BaseServer,
    Engine,
    MachineTimes,
    Memory,
    RuntimeName,
    Server,
    ServerFacts,
    ServerSpec,
)
from harness.servers.readiness import health_complaint, wait_until_ready

_TIMEOUT_S = 10.0

NOT_KNOWN = "unknown (attached)"
"""What is emulated in a server that somebody else started."""


class AttachedRuntime:
    """Talks to a server that is already running; starts, stops, measures and removes nothing.

    An arm's flags and environment are not applied: the server has what it was started with.

    Args:
        endpoint: ``http://host:port``, with or without a path and ``/v1``.
        access: What the server wants to be shown.
    """

    name: RuntimeName = "attached"
    engine: Engine = "unknown"
    can_restart = False
    kept = ()

    def __init__(self, *, endpoint: str, access: Access = NOTHING_SPECIAL) -> None:
        self._base_url = base_url_of(endpoint)
        self._access = access

    def check_available(self) -> None:
        """Return when it can be tried to reach the server; it is asked when the run begins.

        Raises:
            UsageError: a certificate cannot be read.
        """
        self._access.tls()

    def command(self, spec: ServerSpec) -> str:
        """Say that nothing is started."""
        return f"# starts nothing: {spec.cell} runs on {self._base_url} as it is"

    def sweep(self) -> list[str]:
        """Remove nothing: nothing is ours."""
        return []

    @asynccontextmanager
    async def start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        """Wait until the server is healthy; leave it running."""
        await wait_until_ready(
            base_url=self._base_url,
            deadline_s=spec.boot_deadline_s,
            log_tail=lambda _lines: "",
            access=self._access,
        )
        facts = ServerFacts(
            runtime=self.name, engine=self.engine, base_url=self._base_url, emulated=(NOT_KNOWN,)
        )
        yield _AttachedServer(facts, self._access)


def base_url_of(endpoint: str) -> str:
    """Return an endpoint without trailing slash and ``/v1``.

    Raises:
        UsageError: It is not an HTTP address.
    """
    try:
        url = httpx.URL(endpoint)
    except httpx.InvalidURL as error:
        raise UsageError(
            f"{endpoint!r} is not an address: {error}", remedy="give http://host:port"
        ) from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise UsageError(f"{endpoint!r} is not an HTTP address", remedy="give http://host:port")
    if url.userinfo or url.query:
        raise UsageError(
            "an endpoint must not carry a user, password or query", remedy="give http://host:port"
        )
    return str(url).rstrip("/").removesuffix("/v1").rstrip("/")


class _AttachedServer(BaseServer):
    """A server of which only its HTTP side is visible."""

    async def measure_memory(self) -> Memory:
        return Memory(resident=None, device=None)

    async def look_at_activity(self) -> Activity | None:
        """Its processes are not ours to see."""
        return None

    async def look_at_machine(self) -> MachineTimes | None:
        """Nor is its machine, wherever it is."""
        return None

    async def death(self) -> str | None:
        async with self.access.client(self.base_url) as client:
            return await health_complaint(client, within_s=_TIMEOUT_S)

    def log_tail(self, lines: int = 40) -> str:  # noqa: ARG002  (the interface of every server)
        return ""
