"""Where cells run.  An executor takes the cells of a run and sees each of them to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.drive.cell import CellJob, EarlyLooks, run_cell
from harness.drive.recorder import Watcher
from harness.drive.sharing import SharedServers, by_server
from harness.errors import StorageError
from harness.history.layout import set_aside
from harness.servers.base import Runtime


@dataclass(frozen=True, kw_only=True)
class Work:
    """The cells of a run, and what is done while they run.

    Attributes:
        jobs: The cells.
        watcher_of: Who is shown what of a cell, as soon as it stands in the run directory.
        looks: What tells a cell that it may leave something out.
        is_clean: Judges a cell at its script's end, so that the next may go on with its server; None where
            every cell is to have a server of its own.
    """

    jobs: tuple[CellJob, ...]
    watcher_of: Callable[[CellJob], Watcher]
    looks: EarlyLooks
    is_clean: Callable[[Path], bool] | None


class Executor(Protocol):
    """A place, or many, where cells can run."""

    async def run_all(self, work: Work) -> None:
        """Run every cell; its history and its server's log are then in the job's directory on this machine.

        What an earlier attempt at a cell left there is set aside first.  Cancelled, it stops the servers
        in order and leaves nothing running, wherever that was.

        Raises:
            StorageError: the run directory cannot be written any more.
        """
        ...


class LocalExecutor:
    """Runs cells here, one after the other, and lets those share a server that can."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def run_all(self, work: Work) -> None:
        """Run every cell, in an order that lets them share."""
        sharing = work.is_clean is not None and self._runtime.can_restart
        jobs = by_server(work.jobs) if sharing else list(work.jobs)
        async with SharedServers(self._runtime, jobs, is_clean=work.is_clean or (lambda _: False)) as shared:
            for job in jobs:
                make_room(job.directory)
                starter = shared if sharing else self._runtime
                await run_cell(job, starter, watcher=work.watcher_of(job), looks=work.looks)


def make_room(cell_directory: Path) -> None:
    """Set aside what an earlier attempt at a cell left.

    Raises:
        StorageError: it cannot be moved.
    """
    try:
        set_aside(cell_directory)
    except OSError as error:
        raise StorageError(
            f"{cell_directory}: cannot set the earlier attempt aside: {error.strerror}",
            remedy="make the folder writable",
        ) from error
