"""Keeps ``run.json`` true while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from harness.drive.recorder import Watcher
from harness.history.events import (
    CellFailed,
    CellFinished,
    CellStarted,
    Event,
    ServerLeftDamaged,
    ServerReady,
)
from harness.history.integrity import tip
from harness.history.layout import HISTORY_FILE, cell_folder
from harness.history.run_description import (
    DescribedServer,
    Resumed,
    RunDescription,
    now,
    read_description,
    write_description,
)
from harness.history.time_parts import TimeSpent
from harness.history.time_spent import milliseconds
from harness.redaction import without_secret_flags
from harness.runs.locking import alone_in
from harness.runs.plan import RunPlan, describe


class RunRecord:
    """``run.json``: written when the run starts, again whenever a server tells what it is, and at the end."""

    def __init__(self, plan: RunPlan) -> None:
        self.interrupted = False
        self.ended_with: str | None = None
        self._directory = plan.directory
        self._content = _taken_up(plan) if plan.resumes else describe(plan, started_at=now())
        self._outside_cells = self._content.milliseconds_outside_cells
        self._outside_cells += TimeSpent(harness=milliseconds(time.monotonic() - plan.asked_at))
        run_anew = {cell.id for cell in plan.cells}
        self._servers = {
            cell: server for cell, server in self._content.servers.items() if cell not in run_anew
        }
        self._histories = {
            cell: digest for cell, digest in self._content.histories.items() if cell not in run_anew
        }

    def write(self) -> None:
        """Write what is known so far."""
        known = {
            "milliseconds_outside_cells": self._outside_cells,
            "servers": self._servers,
            "histories": self._histories,
        }
        write_description(self._directory, self._content.model_copy(update=known))

    def finish(self) -> None:
        """Write that the run has ended, whether it was ``interrupted``, and which cell it ended with."""
        ended = {"finished_at": now(), "interrupted": self.interrupted, "ended_with": self.ended_with}
        self._content = self._content.model_copy(update=ended)
        self.write()

    def noting(self, cell: str, watcher: Watcher) -> Watcher:
        """Wrap ``watcher`` so that what a server is gets into ``run.json`` as soon as it is known.

        What ``watcher`` does when a cell is over is its judgement, and is timed as such.
        """

        def watch(event: Event) -> None:
            self._note_history(cell, event)
            if isinstance(event, ServerReady):
                told = event.model_dump(include=set(DescribedServer.model_fields))
                self._servers[cell] = DescribedServer(**told)
                self.write()
            with self._judging() if isinstance(event, CellFinished | CellFailed) else nullcontext():
                watcher(event)

        return watch

    def _note_history(self, cell: str, event: Event) -> None:
        """How a history ended is known from when it has, until it begins anew."""
        if isinstance(event, CellStarted) and self._histories.pop(cell, None) is not None:
            self.write()
        if isinstance(event, CellFinished | CellFailed | ServerLeftDamaged):
            history = cell_folder(self._directory, cell) / HISTORY_FILE
            # What the trials of a selftest have in common is told as a cell's, and stands elsewhere.
            if history.exists() and (digest := tip(history)):
                self._histories[cell] = digest
                self.write()

    @contextmanager
    def _judging(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._outside_cells += TimeSpent(judging=milliseconds(time.monotonic() - began))


@contextmanager
def recorded(plan: RunPlan) -> Iterator[RunRecord]:
    """Hold the run directory, and see to it that ``run.json`` says how the run ended, however that was.

    Raises:
        UsageError: another harness is at work in the directory.
        StorageError: it cannot be written.
    """
    with alone_in(plan.directory):
        record = RunRecord(plan)
        record.write()
        try:
            yield record
        finally:
            record.finish()


def _taken_up(plan: RunPlan) -> RunDescription:
    """What ``run.json`` says already, and that the run goes on."""
    before = read_description(plan.directory)
    again = Resumed(
        at=now(),
        command=tuple(without_secret_flags(plan.command)),
        cells=tuple(cell.id for cell in plan.cells),
    )
    begun_again = {"finished_at": None, "interrupted": None, "ended_with": None}
    goes_on = {**begun_again, "resumed": (*before.resumed, again)}
    return before.model_copy(update=goes_on)
