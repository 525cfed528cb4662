"""From options to a watch that has ended."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import anyio

from harness.check.result import CellResult
from harness.drive.guest.asking import look, require_admission, require_one_server
from harness.drive.guest.refusals import is_about_tls, require_answer
from harness.drive.run import run_interruptibly
from harness.errors import RuntimeUnavailableError, SleepwakeError, UsageError
from harness.extras import require
from harness.runs.finding import find_run, new_run_directory
from harness.runs.locking import alone_in
from harness.runs.options import RunOptions
from harness.servers.attached import AttachedRuntime, base_url_of
from harness.servers.base import Server
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.metrics import read_metrics
from harness.watch.canaries import Canaries
from harness.watch.guard import Guard, Judged
from harness.watch.looking import LOOK_DEADLINE_S
from harness.watch.noticing import Happening
from harness.watch.options import WatchOptions
from harness.watch.record import EarlierBaseline, WatchRecord, begin, named_baseline
from harness.watch.status import Status, outcome_of
from harness.watch.webhook import Webhook, is_news

_ASKED_S = 10.0
_BROKEN = 500


@dataclass(frozen=True, kw_only=True)
class EndedWatch:
    """How a watch ended."""

    directory: Path
    interrupted: bool
    result: CellResult | None
    """Of one that was to end with the first judgement."""


def watch(options: WatchOptions, asked: RunOptions, *, tell: Callable[[str], None]) -> EndedWatch:
    """Watch a server until it is judged once, if that is wanted, or somebody interrupts.

    Args:
        options: How it is watched.
        asked: The same as ``run.json`` tells it.
        tell: Is told every sentence.

    Raises:
        UsageError: the options contradict each other, or what is there.
        InfrastructureError: the server cannot be watched, or the run directory cannot be written.
    """
    endpoint = base_url_of(options.endpoint)
    options.access.tls()
    canaries = Canaries(count=options.prompts, max_tokens=options.max_tokens)
    if options.prompts > canaries.most:
        raise UsageError(
            f"--prompts: there are {canaries.most} canaries", remedy=f"give {canaries.most} or fewer"
        )
    earlier = None
    if options.baseline is not None:
        earlier = named_baseline(find_run(str(options.baseline), out=asked.out), endpoint=endpoint)
    listening = None
    if options.listen is not None:
        require("watch", for_what="--listen")
        from harness.watch.app import listener

        listening = listener(options.listen)
    directory = new_run_directory(asked.out)
    with listening or nullcontext(), alone_in(directory):
        record = begin(directory, asked, keep=options.keep, command=tuple(sys.argv))
        record.note(endpoint=endpoint)
        watching = _Watching(
            options=options,
            record=record,
            canaries=canaries,
            earlier=earlier,
            listening=listening,
            tell=tell,
        )
        return anyio.run(watching.to_its_end)


@dataclass(kw_only=True, eq=False)
class _Watching:
    options: WatchOptions
    record: WatchRecord
    canaries: Canaries
    earlier: EarlierBaseline | None
    listening: socket.socket | None
    tell: Callable[[str], None]
    _result: CellResult | None = None
    _error: SleepwakeError | None = None

    async def to_its_end(self) -> EndedWatch:
        whole = False
        try:
            whole = await run_interruptibly(self._watch)
        finally:
            self.record.finish(interrupted=not whole)
        if self._error is not None:
            raise self._error
        return EndedWatch(directory=self.record.directory, interrupted=not whole, result=self._result)

    async def _watch(self) -> None:
        status = Status()
        async with self._telling(status) as judged:
            try:
                self._result = await self._guard(status, judged)
            except SleepwakeError as error:
                self._error = error

    async def _guard(self, status: Status, judged: Judged) -> CellResult:
        async with self._reached() as (server, connection):
            guard = Guard(
                options=self.options,
                record=self.record,
                canaries=self.canaries,
                server=server,
                connection=connection,
                status=status,
                tell=self.tell,
                judged=judged,
            )
            return await guard.watch(earlier=self.earlier)

    @asynccontextmanager
    async def _telling(self, status: Status) -> AsyncIterator[Judged]:
        """Answer and send beside the watch, as far as that is wanted; nothing of it holds the watch up."""
        webhook = self._webhook
        before: str | None = None

        async def send(hook: Webhook, result: CellResult, happened: Happening) -> None:
            if failure := await hook.send(result, happened):
                status.unsent += 1
                self.tell(f"the webhook was not told: {failure}")

        async with anyio.create_task_group() as serving:
            if self.listening is not None:
                from harness.watch.app import serve

                serving.start_soon(serve, status, self.listening)
            # What is under way when the watch ends is waited for: its deadline is short.
            async with anyio.create_task_group() as sending:

                def judged(result: CellResult, happened: Happening) -> None:
                    nonlocal before
                    outcome = outcome_of(result)
                    if webhook is not None and is_news(outcome, before):
                        sending.start_soon(send, webhook, result, happened)
                    before = outcome

                yield judged
            serving.cancel_scope.cancel()

    @property
    def _webhook(self) -> Webhook | None:
        if self.options.webhook is None:
            return None
        endpoint = base_url_of(self.options.endpoint)
        return Webhook(url=self.options.webhook, endpoint=endpoint, run=self.record.directory.name)

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[tuple[Server, Connection]]:
        """The server, once it answers."""
        runtime = AttachedRuntime(endpoint=self.options.endpoint, access=self.options.access)
        endpoint = base_url_of(self.options.endpoint)
        async with connect(endpoint, access=self.options.access) as connection:
            await self._until_it_answers(connection)
            await require_admission(connection)
            await _require_state(connection)
            await require_one_server(connection, await look(connection.http))
            job = self.canaries.job("watch", run_id=self.record.directory.name, directory=Path())
            async with runtime.start(job.spec) as server:
                yield server, connection

    async def _until_it_answers(self, connection: Connection) -> None:
        """Wait for a server that is still starting; what will not change by waiting is told at once.

        Raises:
            RuntimeUnavailableError: it wants a key, is not vLLM, and the like.
        """
        told = False
        while True:
            health = await lifecycle.health(connection.http, deadline_s=_ASKED_S)
            if not _may_come_yet(health):
                require_answer(health, connection.base_url)
                return
            if not told:
                self.tell(f"waiting for {connection.base_url}")
                told = True
            await anyio.sleep(self.options.every_s)


async def _require_state(connection: Connection) -> None:
    """Return if what a watch looks at is not kept from it; that it is missing is told when it is looked at.

    Raises:
        RuntimeUnavailableError: the state, or the metrics, are for others alone.
    """
    state = await lifecycle.is_sleeping(connection.http, deadline_s=LOOK_DEADLINE_S)
    if state.error is not None and state.error.kind == "http" and not state.unavailable:
        require_answer(state, connection.base_url)
    metrics = await read_metrics(connection.http, deadline_s=LOOK_DEADLINE_S)
    if metrics.error is not None and metrics.error.kind in {"http", "protocol"}:
        raise RuntimeUnavailableError(
            f"{connection.base_url}/metrics: {metrics.error.message}",
            remedy="a watch reads the metrics of vLLM: let it reach them at the same address",
        )


def _may_come_yet(health: CallResult) -> bool:
    """Whether nobody answers yet, or only that it is not ready."""
    if health.error is None or is_about_tls(health.error):
        return False
    return health.status is None or health.status >= _BROKEN
