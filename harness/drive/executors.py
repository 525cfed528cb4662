"""Where cells run.  An executor takes the cells of a run and sees each of them to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from harness.drive.cell import EarlyLooks, run_cell
from harness.drive.job import CellJob
from harness.drive.recorder import Watcher
from harness.drive.sharing import Judges, SharedServers, by_server
from harness.errors import ServerNotFreshError
from harness.history.files import storing
from harness.history.layout import set_aside
from harness.servers.base import Runtime


@dataclass(frozen=True, kw_only=True)
class Work:
    """The cells of a run, and what is done while they run."""

    jobs: tuple[CellJob, ...]
    watcher_of: Callable[[CellJob], Watcher]
    """Who is shown what of a cell, as soon as it stands in the run directory."""
    looks: EarlyLooks = field(default_factory=EarlyLooks)
    sharing: Judges | None = None
    """None where every cell is to have a server of its own."""
    is_over: Callable[[], bool] = lambda: False
    """Whether what was seen so far is enough: cells that have not begun then are not run."""


class Executor(Protocol):
    """A place, or many, where cells can run."""

    async def run_all(self, work: Work) -> None:
        """Run every cell; its history and its server's log are then in the job's directory on this machine.

        What an earlier attempt at a cell left there is set aside first.  Cancelled, it stops the servers
        in order and leaves nothing running, wherever that was.

        Raises:
            StorageError: the run directory cannot be written any more.
        """


class LocalExecutor:
    """Runs cells here, one after the other, and lets those share a server that can."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def run_all(self, work: Work) -> None:
        """Run every cell, in an order that lets them share."""
        if work.sharing is None or not self._runtime.can_restart:
            for job in work.jobs:
                make_room(job.directory)
                await run_cell(job, self._runtime, watcher=work.watcher_of(job), looks=work.looks)
                if work.is_over():
                    break
            return
        jobs = by_server(work.jobs)
        async with SharedServers(
            self._runtime, jobs, judges=work.sharing, watcher_of=work.watcher_of
        ) as servers:
            for job in jobs:
                await run_on_shared(job, servers, watcher=work.watcher_of(job), looks=work.looks)
                if work.is_over():
                    break


async def run_on_shared(job: CellJob, servers: SharedServers, *, watcher: Watcher, looks: EarlyLooks) -> None:
    """Run a cell on the server of the one before, or on one of its own where that is not as it was."""
    looks = replace(looks, require_as_fresh=lambda _: servers.require_as_fresh(job))
    make_room(job.directory)
    try:
        await run_cell(job, servers, watcher=watcher, looks=looks)
    except ServerNotFreshError:
        make_room(job.directory)
        await run_cell(job, servers, watcher=watcher, looks=looks)


def make_room(cell_directory: Path) -> None:
    """Set aside what an earlier attempt at a cell left.

    Raises:
        StorageError: it cannot be moved.
    """
    with storing(cell_directory, cannot="move the earlier attempt aside", remedy="make the folder writable"):
        set_aside(cell_directory)
