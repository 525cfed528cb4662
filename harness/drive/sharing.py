"""Cells that want the same server follow each other on one, as long as nothing is wrong with it.

Booting is most of a short cell's time.  A server goes on to the next cell only if all of this holds:

* it would be started with the same command, environment and files;
* the script before leaves it whole by itself: it puts it to sleep and wakes it, pauses and resumes it, loads
  its own weights, and sees every request that it starts to its end;
* the cell before is clean (a verdict, not a guess), so nothing of it is known to be damaged;
* it answers a canary as it answered when it was fresh: after ``/reset_prefix_cache``, the first
  :data:`CANARY_PROMPTS` prompts of the first cell on this server, under salts never used before, have the
  first tokens of that cell's very first pass, which found nothing cached either, with log-probabilities that
  differ no more than :data:`ROUNDING`; and it is awake, not paused, and the weights have their checksums.

So what a next cell takes for its baseline is what a fresh server would have said: what is wrong with weights,
buffers or decoding shows in any prompt.  Where answers are not reproducible that well (bf16 at more than one
request at a time) the canary fails, and every cell gets a fresh server.  What a next cell reads from the
prefix cache is its own, as its salts are.  Its memory is compared with what it was when that cell began.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import numpy as np

from harness.drive.aftermath import asks_without_weights, leaves_it_whole
from harness.drive.cell import CellJob
from harness.drive.session import messages_of
from harness.errors import HistoryError
from harness.history.events import Answer, Method, Role
from harness.history.recording import Pass, Recording, load_recording
from harness.servers.base import Memory, Runtime, Server, ServerFacts, ServerSpec
from harness.vllm_api import lifecycle
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.generation import Generation, GenerationRequest, generate

ROUNDING = 1e-3
"""nat; what the order of float32 additions comes to, which changes with how requests fall into batches.

No checker calls a difference below it damage.
"""

CANARY_PROMPTS = 8
"""Prompts that a server must answer again as it did when it was fresh."""

CANARY_TOKENS = 16
"""Tokens of each of these answers."""


def by_server(jobs: Sequence[CellJob]) -> list[CellJob]:
    """Order ``jobs`` so that those that want the same server follow each other.

    Among them, those that spoil it come last: whoever follows one needs a server anew.  So do, before
    these, those that most probably spoil it, although their scripts do not say so.
    """
    first: dict[int, int] = {}
    for number, job in enumerate(jobs):
        first[number] = next((place for place in range(number) if _same_server(jobs[place], job)), number)

    def place(number: int) -> tuple[int, bool, bool, int]:
        script = jobs[number].cell.scenario.script
        return first[number], not leaves_it_whole(script), asks_without_weights(script), number

    return [jobs[number] for number in sorted(first, key=place)]


def _same_server(one: CellJob, other: CellJob) -> bool:
    return _without_names(one.spec) == _without_names(other.spec)


def _without_names(spec: ServerSpec) -> ServerSpec:
    return replace(spec, cell="", log_path=Path(), boot_deadline_s=0.0)


@dataclass(frozen=True)
class _Shared:
    """A server that an earlier cell started."""

    server: Server
    cells: tuple[str, ...]

    @property
    def facts(self) -> ServerFacts:
        return replace(self.server.facts, shared_with=self.cells)

    @property
    def base_url(self) -> str:
        return self.server.base_url

    async def measure_memory(self) -> Memory:
        return await self.server.measure_memory()

    async def death(self) -> str | None:
        return await self.server.death()

    def log_tail(self, lines: int = 40) -> str:
        return self.server.log_tail(lines)


class SharedServers:
    """Starts servers for ``jobs``, which come in this order, and lets cells share where it is safe.

    Use as a context manager around all of them: what is still running at its end is stopped.

    Args:
        runtime: Starts the servers.
        jobs: The cells in the order in which they will ask for a server.
        is_clean: Whether the cell in a folder, as far as it is recorded, would be clean.
    """

    def __init__(
        self, runtime: Runtime, jobs: Sequence[CellJob], *, is_clean: Callable[[Path], bool]
    ) -> None:
        self._runtime = runtime
        self._jobs = {job.cell.id: job for job in jobs}
        self._next = {job.cell.id: after for job, after in pairwise(jobs)}
        self._is_clean = is_clean
        self._held = AsyncExitStack()
        self._server: Server | None = None
        self._cells: list[str] = []
        """Those that the server has served, the first of which found it fresh."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        """Give the server that is held, or start one; afterwards hold it for the next cell or stop it.

        Raises:
            InfrastructureError: it cannot be started.
        """
        if self._server is not None and not await self._is_as_fresh(self._server):
            await self._stop()
        if self._server is None:
            self._server = await self._held.enter_async_context(self._runtime.start(spec))
        shared = tuple(self._cells)
        self._cells.append(spec.cell)
        goes_on = False
        try:
            yield _Shared(self._server, shared) if shared else self._server
            goes_on = self._suits_the_next(self._jobs[spec.cell])
        finally:
            if not goes_on:
                await self._stop()

    async def _stop(self) -> None:
        held, self._held = self._held, AsyncExitStack()
        self._server = None
        self._cells.clear()
        await held.aclose()

    def _suits_the_next(self, job: CellJob) -> bool:
        after = self._next.get(job.cell.id)
        return (
            after is not None
            and _same_server(job, after)
            and leaves_it_whole(job.cell.scenario.script)
            and self._is_clean(job.directory)
        )

    async def _is_as_fresh(self, server: Server) -> bool:
        job = self._jobs[self._cells[0]]
        try:
            recording = load_recording(job.directory)
        except HistoryError:
            return False
        if (fresh := _first_pass(recording)) is None or await server.death() is not None:
            return False
        async with connect(server.base_url) as connection:
            deadline_s = job.cell.scenario.deadlines.transition
            return (
                not await _rests(connection, deadline_s=deadline_s)
                and await _has_its_weights(connection, recording, deadline_s=deadline_s)
                and await _answers_as(connection, job, recording, fresh)
            )


def _first_pass(recording: Recording) -> Pass | None:
    """The first answers of a cell: nothing can have been cached for them."""
    baseline = recording.passes_of(Role.BASELINE)
    return next((each for each in baseline if each.start.method is Method.GENERATED), None)


async def _rests(connection: Connection, *, deadline_s: float) -> bool:
    """Whether it says that it sleeps or is paused; older releases know no pause."""
    sleeping = await lifecycle.is_sleeping(connection.http, deadline_s=deadline_s)
    paused = await lifecycle.is_paused(connection.http, deadline_s=deadline_s)
    return sleeping.field("is_sleeping") is True or paused.field("is_paused") is True


async def _has_its_weights(connection: Connection, recording: Recording, *, deadline_s: float) -> bool:
    """Whether every parameter has the checksum it had; a release that tells none passes."""
    before = recording.weight_checksums[0].checksums if recording.weight_checksums else None
    now = (await lifecycle.weight_checksums(connection.http, deadline_s=deadline_s)).field("checksums")
    if not isinstance(now, dict):
        return before is None
    return {name: str(value) for name, value in now.items()} == before


async def _answers_as(connection: Connection, job: CellJob, recording: Recording, fresh: Pass) -> bool:
    """Whether the first answers of a pass that found nothing cached come again."""
    deadlines, sampling = job.cell.scenario.deadlines, job.cell.scenario.sampling
    reset = await lifecycle.reset_prefix_cache(connection.http, deadline_s=deadlines.transition)
    if not reset.ok:
        return False
    salt = f"sleepwake-canary-{secrets.token_hex(8)}"
    limiter = anyio.CapacityLimiter(fresh.start.concurrency)
    same: list[bool] = []

    async def ask(prompt: str) -> None:
        request = GenerationRequest(
            prompt_token_ids=recording.prompts[prompt].token_ids,
            messages=messages_of(recording.prompts[prompt]),
            max_tokens=min(sampling.max_tokens, CANARY_TOKENS),
            model=job.model.served_name,
            deadline_s=deadlines.answer,
            temperature=sampling.temperature,
            seed=sampling.seed,
            cache_salt=salt,
            top_logprobs=sampling.logprobs,
        )
        async with limiter:
            same.append(comes_again(fresh.answers.get(prompt), await generate(connection.openai, request)))

    async with anyio.create_task_group() as group:
        for prompt in fresh.start.asked[:CANARY_PROMPTS]:
            group.start_soon(ask, prompt)
    return bool(same) and all(same)


def comes_again(before: Answer | None, now: Generation) -> bool:
    """Whether an answer of :data:`CANARY_TOKENS` is how the one from before began, but for rounding."""
    if before is None or before.failure is not None or now.error is not None or before.logprobs is None:
        return False
    expected = before.token_ids[:CANARY_TOKENS]
    is_whole = expected == before.token_ids
    if expected != now.token_ids or (before.finish_reason if is_whole else "length") != now.finish_reason:
        return False
    shifts = np.abs(before.logprobs.chosen[: len(expected)] - now.chosen_logprobs)
    return bool((shifts <= ROUNDING).all())
