"""Waits until a server is ready, and not a moment longer than it lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import anyio
import httpx

from harness.errors import FlagsRefusedError, ServerBootError
from harness.servers.logs import LINES_READ, explain, shown

_POLL_S = 0.2
_PROBE_TIMEOUT_S = 5.0


Check = Callable[[], Awaitable[str | None]]


async def _nothing_to_say() -> None:
    """Say that all is well."""


async def wait_until_ready(
    *,
    base_url: str,
    deadline_s: float,
    log_tail: Callable[[int], str],
    death: Check = _nothing_to_say,
    intruder: Check = _nothing_to_say,
    trust_env: bool = False,
) -> None:
    """Return once ``GET /health`` answers 200.

    Args:
        base_url: The server.
        deadline_s: Seconds to wait at most.
        log_tail: The last lines of the server's output, as many as asked for.
        death: Says why the server is gone; None while it lives.
        intruder: Asked once ``/health`` answers: says who answers instead of the server; None
            when it is the server itself.
        trust_env: Whether to go through the proxies the environment names; never to loopback.

    Raises:
        ServerBootError: It died, is not what answers, or was not ready in time.
    """
    with anyio.move_on_after(deadline_s):
        async with httpx.AsyncClient(trust_env=trust_env, timeout=_PROBE_TIMEOUT_S) as client:
            while True:
                if cause := await death():
                    raise boot_error(f"the server died while starting: {cause}", log_tail(LINES_READ))
                if await _is_healthy(client, base_url):
                    if cause := await intruder():
                        raise boot_error(cause, log_tail(LINES_READ))
                    return
                await anyio.sleep(_POLL_S)
    raise boot_error(f"the server was not ready after {deadline_s:g} s", log_tail(LINES_READ))


async def _is_healthy(client: httpx.AsyncClient, base_url: str) -> bool:
    try:
        response = await client.get(f"{base_url}/health")
    except httpx.TransportError:
        return False
    return response.status_code == HTTPStatus.OK


def boot_error(cause: str, log: str) -> ServerBootError:
    """Return the error for a server that did not come up, with what its log says about why."""
    diagnosis = explain(cause, log)
    error = FlagsRefusedError if diagnosis.refused else ServerBootError
    return error(diagnosis.cause, log_tail=shown(log), remedy=diagnosis.remedy)
