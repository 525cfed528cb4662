"""Waits until a server is ready, and not a moment longer than it lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import anyio
import httpx

from harness.errors import FlagsRefusedError, ServerBootError
from harness.reaching import NOTHING_SPECIAL, Access
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
    access: Access = NOTHING_SPECIAL,
) -> None:
    """Return once ``GET /health`` answers 200.

    ``death`` says why the server is gone, and ``intruder``, once there is an answer, who gave it instead of
    the server; None where neither is so.

    Raises:
        ServerBootError: It died, is not what answers, or was not ready in time.
    """
    with anyio.move_on_after(deadline_s):
        async with access.client(base_url) as client:
            while True:
                if cause := await death():
                    raise boot_error(f"the server died while starting: {cause}", log_tail(LINES_READ))
                if await health_complaint(client, within_s=_PROBE_TIMEOUT_S) is None:
                    if cause := await intruder():
                        raise boot_error(cause, log_tail(LINES_READ))
                    return
                await anyio.sleep(_POLL_S)
    raise boot_error(f"the server was not ready after {deadline_s:g} s", log_tail(LINES_READ))


async def health_complaint(client: httpx.AsyncClient, *, within_s: float) -> str | None:
    """Return what is wrong with a server's health; None when it is healthy."""
    try:
        with anyio.fail_after(within_s):
            status = (await client.get("/health")).status_code
    except TimeoutError:
        return f"does not answer within {within_s:g} s"
    except httpx.TransportError as error:
        return f"does not answer ({error or type(error).__name__})"
    return None if status == HTTPStatus.OK else f"answers /health with {status}"


def boot_error(cause: str, log: str) -> ServerBootError:
    """Return the error for a server that did not come up, with what its log says about why."""
    diagnosis = explain(cause, log)
    error = FlagsRefusedError if diagnosis.refused else ServerBootError
    return error(diagnosis.cause, log_tail=shown(log), remedy=diagnosis.remedy)
