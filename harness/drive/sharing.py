"""Cells that want the same server follow each other on one, as long as nothing is wrong with it.

Booting is most of a short cell's time.  A server goes on to the next cell only if all of this holds:

* it would be started with the same command, environment and files;
* the next cell begins with the questions that the first one did, which found the server fresh: the same
  prompts, at the same length and concurrency, re-hits included;
* the script before leaves it whole by itself: it puts it to sleep and wakes it, pauses and resumes it, loads
  its own weights, and sees every request that it starts to its end;
* the cell before is clean (a verdict, not a guess), so nothing of it is known to be damaged;
* it is awake, not paused, and can empty its prefix cache.

Then the next cell asks its first questions.  Before it does anything to the engine, all of its answers, and
the weights' checksums, are held against those of the first cell: its baseline must be what an engine said
that had never slept.  Where it is not, the cell starts again on a server of its own; and where the
difference is damage, the cell before, which was called clean, is told of it, with the answers that show it.

Its memory is compared with what it was when that cell began.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.drive.aftermath import asks_without_weights, leaves_it_whole
from harness.drive.guest.asking import look
from harness.drive.job import CellJob
from harness.drive.recorder import Watcher
from harness.errors import ServerNotFreshError
from harness.history.appending import tell_of_damage
from harness.history.layout import HISTORY_FILE
from harness.history.recording import load_recording
from harness.scenario.script import flat_steps
from harness.servers.base import BaseServer, Runtime, Server, ServerSpec
from harness.vllm_api import lifecycle
from harness.vllm_api.connection import connect


@dataclass(frozen=True, kw_only=True)
class SeenAgain:
    """What a server's answers to a later cell say, held against those it gave when it was fresh.

    They are the same, or are proven not to be; where neither holds, nobody can tell.
    """

    whole: bool
    damaged: bool
    because: str


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Who decides whether a server may go on to another cell; both look at what is recorded in folders."""

    is_clean: Callable[[Path], bool]
    """Whether a cell, as far as it is recorded, would be clean."""
    sees_again: Callable[[Path, Path], SeenAgain]
    """What the first answers of the second cell say of a server that the first found fresh."""


def by_server(jobs: Sequence[CellJob]) -> list[CellJob]:
    """Order ``jobs`` so that those that can share a server follow each other.

    Among them, those that spoil it come last: whoever follows one needs a server anew.  So do, before
    these, those that most probably spoil it, although their scripts do not say so.
    """

    def first(number: int, alike: Callable[[CellJob, CellJob], bool]) -> int:
        return next((place for place in range(number) if alike(jobs[place], jobs[number])), number)

    def place(number: int) -> tuple[int, int, bool, bool, int]:
        script = jobs[number].cell.scenario.script
        return (
            first(number, _same_server),
            first(number, can_share),
            not leaves_it_whole(script),
            asks_without_weights(script),
            number,
        )

    return [jobs[number] for number in sorted(range(len(jobs)), key=place)]


def can_share(one: CellJob, other: CellJob) -> bool:
    """Whether the second may have the server of the first.

    Other kinds of requests than prompts are not held against those that found it fresh: the cell before,
    which was clean, has to have asked them.
    """
    asked, kinds = one.cell.scenario.kinds, other.cell.scenario.kinds
    same_questions = _first_questions(one) == _first_questions(other) and kinds in {None, (), asked}
    return _same_server(one, other) and same_questions


def _first_questions(job: CellJob) -> tuple[object, ...]:
    """All that decides what is asked before anything is done to the engine."""
    cell, scenario = job.cell, job.cell.scenario
    return (
        *(
            cell.prompts,
            cell.held_out,
            scenario.sampling,
            scenario.evidence,
            scenario.concurrency,
        ),
        tuple(takewhile(lambda step: step.asks, flat_steps(scenario.script))),
    )


def _same_server(one: CellJob, other: CellJob) -> bool:
    return _without_names(one.spec) == _without_names(other.spec)


def _without_names(spec: ServerSpec) -> ServerSpec:
    return replace(spec, cell="", log_path=Path(), boot_deadline_s=0.0)


class _Shared(BaseServer):
    """A server that earlier ``cells`` were served by; all it is asked, it is asked itself."""

    def __init__(self, server: Server, cells: tuple[str, ...]) -> None:
        super().__init__(replace(server.facts, shared_with=cells), server.access)
        self.measure_memory = server.measure_memory
        self.look_at_activity = server.look_at_activity
        self.look_at_machine = server.look_at_machine
        self.death = server.death
        self.log_tail = server.log_tail


class SharedServers:
    """Starts servers for ``jobs``, which come in this order, and lets cells share where it is safe.

    Use as a context manager around all of them: what is still running at its end is stopped.
    ``watcher_of`` tells who is shown what is added to the history of a cell that has ended.
    """

    def __init__(
        self,
        runtime: Runtime,
        jobs: Sequence[CellJob],
        *,
        judges: Judges,
        watcher_of: Callable[[CellJob], Watcher],
    ) -> None:
        self._runtime = runtime
        self._jobs = {job.cell.id: job for job in jobs}
        self._next = {job.cell.id: after for job, after in pairwise(jobs)}
        self._judges = judges
        self._watcher_of = watcher_of
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
        if self._server is not None and not await self._is_ready(self._server):
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

    def require_as_fresh(self, job: CellJob) -> None:
        """Return when the server answered ``job`` so far as it answered the cell that found it fresh.

        Where it is proven not to, that is added to the history of the cell before.

        Raises:
            ServerNotFreshError: it is not known to.
            StorageError: nothing could be added.
        """
        if len(self._cells) < 2:  # noqa: PLR2004 - it is the one that found it fresh
            return
        fresh, before = (self._jobs[self._cells[place]] for place in (0, -2))
        seen = self._judges.sees_again(fresh.directory, job.directory)
        if seen.whole:
            return
        if seen.damaged:
            told = tell_of_damage(
                before.directory / HISTORY_FILE,
                load_recording(before.directory),
                load_recording(job.directory),
                because=seen.because,
            )
            self._watcher_of(before)(told)
        raise ServerNotFreshError(
            f"the server that {before.cell.id} left is not known to be as when it was fresh: {seen.because}",
            remedy="the cell starts again on a server of its own",
        )

    async def _stop(self) -> None:
        held, self._held = self._held, AsyncExitStack()
        self._server = None
        self._cells.clear()
        await held.aclose()

    def _suits_the_next(self, job: CellJob) -> bool:
        after = self._next.get(job.cell.id)
        return (
            after is not None
            and can_share(job, after)
            and (self._runtime.name != "inprocess" or job.spec.needs_async == after.spec.needs_async)
            and leaves_it_whole(job.cell.scenario.script)
            and self._judges.is_clean(job.directory)
        )

    async def _is_ready(self, server: Server) -> bool:
        """Whether it lives, rests in no way, and has emptied its prefix cache."""
        deadline_s = self._jobs[self._cells[0]].cell.scenario.deadlines.transition
        if await server.death() is not None:
            return False
        async with connect(server.base_url, access=server.access) as connection:
            if (await look(connection.http, deadline_s=deadline_s)).rests:
                return False
            return (await lifecycle.reset_prefix_cache(connection.http, deadline_s=deadline_s)).ok
