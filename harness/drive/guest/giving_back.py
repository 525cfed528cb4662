"""Gives a server back as it was found: awake, at work, with its own weights and without our adapters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import anyio
import httpx

from harness.drive.guest.asking import LOOK_DEADLINE_S, look
from harness.drive.guest.owed import Ledger, Owed
from harness.drive.introduction import served_names
from harness.errors import RuntimeUnavailableError
from harness.reaching import NOTHING_SPECIAL, Access
from harness.servers.owner import Owner
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.connection import connect
from harness.vllm_api.metrics import read_metrics

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
        if await _is_another_process(http, owed):
            return None
        for attempt in range(ATTEMPTS):
            if attempt:
                await anyio.sleep(BETWEEN_ATTEMPTS_S)
            problem = await _try(http, owed)
            if problem is None:
                break
    return problem


async def _is_another_process(http: httpx.AsyncClient, owed: Owed) -> bool:
    """Whether the server has been started since: what was done to it ended with the process that it was."""
    metrics = (await read_metrics(http, deadline_s=LOOK_DEADLINE_S)).snapshot
    told = metrics.started if metrics else None
    return None not in {owed.started, told} and owed.started != told


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


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """What came of something that a dead harness owed."""

    sentence: str
    is_settled: bool
    """Whether nothing of it is owed any more."""


async def give_back_to(ledger: Ledger, endpoint: str, *, access: Access = NOTHING_SPECIAL) -> list[Leftover]:
    """Give back what dead harnesses still owe to the server at ``endpoint``, which somebody is about to use.

    Raises:
        RuntimeUnavailableError: a harness that lives is at work on it.
    """
    done = []
    for owed in ledger.entries(endpoint):
        if (lives := _owner_lives(ledger, owed)) is not False:
            raise RuntimeUnavailableError(
                f"run {owed.run_id} is at work on {endpoint}",
                remedy="wait until it has ended: two runs would put it to sleep under each other"
                + ("" if lives else f"; {_if_it_has_ended(ledger, owed)}"),
            )
        done.append(await _settled(ledger, owed, access))
    return done


async def give_back_all(
    ledger: Ledger, *, endpoint: str | None = None, access: Access = NOTHING_SPECIAL
) -> list[Leftover]:
    """Give back what dead harnesses still owe to any server; those who are at work are left alone.

    ``access`` is what the server at ``endpoint`` wants to be shown: it is for no other.
    """
    done = []
    for owed in ledger.entries():
        if (lives := _owner_lives(ledger, owed)) is False:
            shown = access if owed.endpoint == endpoint else NOTHING_SPECIAL
            done.append(await _settled(ledger, owed, shown))
        elif lives is None:
            whose = f"run {owed.run_id} on {owed.owner.place.host}"
            sentence = f"left {owed.endpoint} alone, where {whose} may be at work: "
            done.append(Leftover(sentence=sentence + _if_it_has_ended(ledger, owed), is_settled=False))
    return done


def _owner_lives(ledger: Ledger, owed: Owed) -> bool | None:
    return False if owed.owner == Owner.this_process() else ledger.owner_lives(owed)


async def _settled(ledger: Ledger, owed: Owed, access: Access) -> Leftover:
    """Give one server back, and strike it out where that has worked."""
    whose = f"which run {owed.run_id} left when it was killed"
    async with connect(owed.endpoint, access=access) as connection:
        started_since = await _is_another_process(connection.http, owed)
        problem = None if started_since else await give_back(connection.http, owed)
    if problem is not None:
        sentence = f"{owed.endpoint}, {whose}, is not as it was: {problem}; this mends it: {owed.mended_by}"
        return Leftover(sentence=sentence, is_settled=False)
    ledger.forget(owed)
    if started_since:
        sentence = f"{owed.endpoint}, {whose}, has been started anew since: it is owed nothing"
    else:
        sentence = f"gave {owed.endpoint} back, {whose}"
    return Leftover(sentence=sentence, is_settled=True)


def _if_it_has_ended(ledger: Ledger, owed: Owed) -> str:
    return f"if it has ended, remove {ledger.path_of(owed)}, and {owed.mended_by}"


def complaints(ledger: Ledger, endpoint: str) -> Iterator[str]:
    """Say of a server that could not be given back, and which commands mend it.

    Nothing is said of what a harness that may live is doing to it: mending would be done under its hands.
    """
    for owed in ledger.entries(endpoint):
        if _owner_lives(ledger, owed) is False:
            yield f"{endpoint} could not be given back as it was found; this mends it: {owed.mended_by}"
