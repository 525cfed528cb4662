"""Gives a server back as it was found: awake, at work, with its own weights and without our adapters."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import httpx

from harness.drive.guest.asking import look
from harness.drive.guest.owed import Ledger, Owed
from harness.drive.introduction import served_names
from harness.errors import RuntimeUnavailableError
from harness.reaching import NOTHING_SPECIAL, Access
from harness.servers.owner import Owner
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.connection import connect

DEADLINE_S = 180.0
"""For all of it; a large engine takes tens of seconds to wake up."""

ATTEMPTS = 3
BETWEEN_ATTEMPTS_S = 1.0


async def give_back(http: httpx.AsyncClient, owed: Owed) -> str | None:
    """Give back what is owed; return in words what is still not as it was, None where all is.

    It is tried more than once: a call that the harness no longer waited for may still be carried out.
    Nothing is raised for what the server does.
    """
    problem: str | None = f"not all was done within {DEADLINE_S:g} s"
    with anyio.move_on_after(DEADLINE_S):
        for attempt in range(ATTEMPTS):
            if attempt:
                await anyio.sleep(BETWEEN_ATTEMPTS_S)
            problem = await _try(http, owed)
            if problem is None:
                break
    return problem


async def _try(http: httpx.AsyncClient, owed: Owed) -> str | None:
    failures = [failure for result in await _calls(http, owed) if (failure := _failure(result))]
    seen = await look(http)
    if seen.is_paused:  # after everything was woken: resuming starts work on memory that is not there
        await lifecycle.resume(http, deadline_s=DEADLINE_S)
        seen = await look(http)
    if seen.sleeping.error is not None:
        return f"it does not say whether it sleeps: {seen.sleeping.error.message}"
    if seen.rests is not None:
        return "; ".join((f"it is still {seen.rests}", *failures))
    left = [f"the adapter {name} is still loaded" for name in await _still_loaded(http, owed)]
    return "; ".join((*failures, *left)) or None


async def _calls(http: httpx.AsyncClient, owed: Owed) -> list[CallResult]:
    """Weights come first: a request that waits is answered as soon as everything is awake."""
    made = []
    if owed.weights:
        if owed.asleep:
            made.append(await lifecycle.wake_up(http, tags=("weights",), deadline_s=DEADLINE_S))
        made.append(await lifecycle.reload_weights(http, path=owed.own_weights, deadline_s=DEADLINE_S))
    if owed.asleep:
        made.append(await lifecycle.wake_up(http, deadline_s=DEADLINE_S))
    if owed.weights:
        made.append(await lifecycle.reset_prefix_cache(http, deadline_s=DEADLINE_S))
    for name in await _still_loaded(http, owed):
        made += [await lifecycle.unload_lora_adapter(http, name=name, deadline_s=DEADLINE_S)]
    return made


def _failure(result: CallResult) -> str | None:
    return f"{result.method} {result.path}: {result.error.message}" if result.error else None


async def _still_loaded(http: httpx.AsyncClient, owed: Owed) -> list[str]:
    served = await served_names(http, deadline_s=DEADLINE_S) if owed.adapters else []
    return [name for name in owed.adapters if name in served]


async def give_back_leftovers(
    ledger: Ledger, *, endpoint: str | None = None, access: Access = NOTHING_SPECIAL
) -> list[str]:
    """Give back what dead harnesses still owe, to one server or to all; say what, a sentence each.

    ``access`` is what the server at ``endpoint`` wants to be shown: it is for no other.

    Raises:
        RuntimeUnavailableError: a harness that lives is at work on ``endpoint``.
    """
    sentences = []
    for owed in ledger.entries(endpoint):
        whose = f"which run {owed.run_id} left when it was killed"
        if owed.owner == Owner.this_process() or owed.owner.is_dead():
            async with connect(owed.endpoint, access=access) as connection:
                problem = await give_back(connection.http, owed)
            if problem is None:
                ledger.forget(owed)
                sentences.append(f"gave {owed.endpoint} back, {whose}")
            else:
                sentences.append(f"{owed.endpoint}, {whose}, is not as it was: {problem}; {owed.mended_by}")
        elif endpoint is not None:
            raise RuntimeUnavailableError(
                f"run {owed.run_id} is at work on {endpoint}",
                remedy="wait until it has ended: two runs would put it to sleep under each other",
            )
    return sentences


def complaints(ledger: Ledger, endpoint: str) -> Iterator[str]:
    """Say of a server that could not be given back, and which commands mend it."""
    for owed in ledger.entries(endpoint):
        yield f"{endpoint} could not be given back as it was found; this mends it: {owed.mended_by}"
