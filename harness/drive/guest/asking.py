"""Asks a server how it is before anything is done to it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import anyio
import httpx

from harness.drive.guest.owed import curl
from harness.drive.guest.refusals import NOT_VLLM, require_answer
from harness.errors import RuntimeUnavailableError
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.connection import Connection
from harness.vllm_api.metrics import MetricsReading, MetricsSnapshot, read_metrics

LOOK_DEADLINE_S = 20.0
"""For everything that is asked in one look, together."""

READS = 4
"""Of /metrics at a time, each over a connection of its own: a balancer gives them to different servers."""

_NOT_LET_IN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}

BETWEEN_LOOKS_S = 0.5
"""Requests that are shorter than a look show in what was counted between two."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a server says of itself at one moment; None where it does not say."""

    sleeping: CallResult
    paused: CallResult
    metrics: MetricsReading

    @property
    def rests(self) -> str | None:
        """In words that it will not begin with a request now; None where nothing says so.

        Sleeping pauses, and newer releases count a paused engine as sleeping: the gauge tells them apart.
        """
        sleeping, paused = self.sleeping.field("is_sleeping") is True, self.is_paused
        gauge = self.metrics.snapshot.sleep_state if self.metrics.snapshot else None
        if sleeping and not (paused and gauge == "awake"):
            return "asleep"
        return "paused" if paused else None

    @property
    def is_paused(self) -> bool:
        """Whether it says that scheduling is paused."""
        return self.paused.field("is_paused") is True

    @property
    def requests(self) -> tuple[int, int]:
        """How many requests run, and how many wait."""
        seen = self.metrics.snapshot
        return ((seen.requests_running or 0), (seen.requests_waiting or 0)) if seen else (0, 0)


async def look(http: httpx.AsyncClient, *, deadline_s: float = LOOK_DEADLINE_S) -> Look:
    """Ask for everything at once; nothing is raised for what the server does."""
    seen: dict[str, CallResult] = {}
    metrics: list[MetricsReading] = []

    async def ask_state() -> None:
        seen["sleeping"] = await lifecycle.is_sleeping(http, deadline_s=deadline_s)

    async def ask_pause() -> None:
        seen["paused"] = await lifecycle.is_paused(http, deadline_s=deadline_s)

    async def ask_metrics() -> None:
        metrics.append(await read_metrics(http, deadline_s=deadline_s))

    async with anyio.create_task_group() as group:
        for each in (ask_state, ask_pause, ask_metrics):
            group.start_soon(each)
    return Look(sleeping=seen["sleeping"], paused=seen["paused"], metrics=metrics[0])


async def require_fit(connection: Connection, *, allow_busy: bool) -> None:
    """Return when the server can be put to sleep without doing harm to anybody.

    Raises:
        RuntimeUnavailableError: it has no development endpoints, rests already, or others use it.
    """
    endpoint = connection.base_url
    require_answer(await lifecycle.health(connection.http, deadline_s=LOOK_DEADLINE_S), endpoint)
    await require_admission(connection)
    first = await look(connection.http)
    _require_state(first, endpoint)
    await anyio.sleep(BETWEEN_LOOKS_S)
    second = await look(connection.http)
    await require_one_server(connection, first, second)
    if allow_busy:
        return
    if busy := _busy(first) or _busy(second) or _worked(first.metrics.snapshot, second.metrics.snapshot):
        raise RuntimeUnavailableError(
            f"others use {endpoint}: {busy}",
            remedy="their requests may be aborted: wait until it is idle, or say --allow-busy",
        )


async def require_admission(connection: Connection) -> None:
    """Return when requests are let in, and not only questions about its state: vLLM's own key guards ``/v1``.

    Raises:
        RuntimeUnavailableError: they are not.
    """
    listed = await lifecycle.models(connection.http, deadline_s=LOOK_DEADLINE_S)
    if listed.status in _NOT_LET_IN:
        require_answer(listed, connection.base_url)


def _require_state(seen: Look, endpoint: str) -> None:
    if seen.sleeping.unavailable:
        raise RuntimeUnavailableError(
            f"{endpoint} has no development endpoints: GET /is_sleeping answers {seen.sleeping.status}",
            remedy="start it with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode",
        )
    require_answer(seen.sleeping, endpoint)
    if not isinstance(seen.sleeping.field("is_sleeping"), bool):
        raise RuntimeUnavailableError(
            f"{endpoint} answers GET /is_sleeping, but not as vLLM does", remedy=NOT_VLLM
        )
    if (rests := seen.rests) is not None:
        path = "/wake_up" if rests == "asleep" else "/resume"
        raise RuntimeUnavailableError(
            f"{endpoint} is {rests} already, so nothing would be answered",
            remedy=f"whoever let it rest may still need that; else: {curl(endpoint, path)}",
        )


async def require_one_server(connection: Connection, *looks: Look) -> None:
    """Return when the same process answers every time, as far as it tells when it was started.

    Raises:
        RuntimeUnavailableError: several do.
    """
    more: list[MetricsReading] = []

    async def read() -> None:
        more.append(await read_metrics(connection.http, deadline_s=LOOK_DEADLINE_S))

    async with anyio.create_task_group() as group:
        for _ in range(READS):
            group.start_soon(read)
    snapshots = (reading.snapshot for reading in (*(each.metrics for each in looks), *more))
    started = {seen.started for seen in snapshots if seen and seen.started is not None}
    if len(started) > 1:
        raise RuntimeUnavailableError(
            f"{len(started)} servers answer at {connection.base_url}: they were started at different times",
            remedy="give the address of one of them: what is asked of one would be put to sleep in another",
        )


def _busy(seen: Look) -> str | None:
    running, waiting = seen.requests
    return f"{running} requests running, {waiting} waiting" if running or waiting else None


def _worked(before: MetricsSnapshot | None, after: MetricsSnapshot | None) -> str | None:
    """What it did between two looks, although nothing was asked of it."""
    tokens = [seen.generation_tokens or 0 for seen in (before, after) if seen]
    made = tokens[-1] - tokens[0] if tokens else 0
    return f"{made} tokens were generated in {BETWEEN_LOOKS_S:g} s" if made > 0 else None
