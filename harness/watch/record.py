"""Keeps the run directory of a watch true: which checks there are, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import HistoryError, UsageError
from harness.history.events import ServerReady
from harness.history.layout import HISTORY_FILE
from harness.history.run_description import (
    ChosenRuntime,
    DescribedServer,
    Watched,
    now,
    read_description,
)
from harness.models.model import THE_SERVERS_OWN
from harness.runs.growing import GrowingRun, baseline_folder
from harness.runs.options import RunOptions
from harness.runs.plan import RunPlan, describe, describe_cell
from harness.scenario.cells import Cell


@dataclass(kw_only=True, eq=False)
class WatchRecord(GrowingRun):
    """The run directory of a watch."""

    @property
    def watched(self) -> Watched:
        """How far the watch has come."""
        assert self.description.watched is not None  # noqa: S101 - ``begin`` sets it
        return self.description.watched

    @property
    def baseline(self) -> Path:
        """The folder of the baseline that counts."""
        return baseline_folder(self.directory, self.watched.baselines)

    def note(self, **known: object) -> None:
        """Put down what has become known of the server, or of the watch.

        Raises:
            StorageError: it cannot be written.
        """
        self.write(watched=self.watched.model_copy(update=known))

    def add_check(self, cell: Cell, ready: ServerReady, *, number: int, is_sound: bool) -> None:
        """Make the check of that ``number`` a cell of the run, and remove sound ones that are too many.

        Raises:
            StorageError: it cannot be written.
        """
        server = DescribedServer(**ready.model_dump(include=set(DescribedServer.model_fields)))
        watched = self.watched.model_copy(update={"checks": number})
        self.add(cell.id, describe_cell(cell), number=number, server=server, watched=watched)
        if is_sound:
            self.note_sound(cell.id)


def begin(directory: Path, options: RunOptions, *, keep: int, command: tuple[str, ...]) -> WatchRecord:
    """Write what is known when a watch begins.

    Raises:
        StorageError: it cannot be written.
    """
    plan = RunPlan(
        directory=directory,
        cells=(),
        model=THE_SERVERS_OWN,
        runtime=ChosenRuntime(name="attached", why="a watch starts nothing"),
        options=options,
        command=command,
    )
    watched = Watched(endpoint=options.endpoint or "", model="")
    description = describe(plan, started_at=now()).model_copy(update={"watched": watched, "servers": {}})
    record = WatchRecord(directory=directory, keep=keep, description=description)
    record.note()
    return record


@dataclass(frozen=True, kw_only=True)
class EarlierBaseline:
    """The baseline of another watch."""

    history: Path
    watched: Watched


def named_baseline(run: Path, *, endpoint: str) -> EarlierBaseline:
    """The baseline of a run that somebody names.

    Raises:
        HistoryError: it is no run.
        UsageError: it is no watch, has no baseline, or is one of another server.
    """
    watched = read_description(run).watched
    if watched is None or not watched.baselines:
        raise UsageError(f"{run}: has no baseline of a watch", remedy="name the run directory of a watch")
    if watched.endpoint != endpoint:
        raise UsageError(
            f"{run}: its baseline is of {watched.endpoint}", remedy="name a watch of the same endpoint"
        )
    return EarlierBaseline(history=baseline_folder(run, watched.baselines) / HISTORY_FILE, watched=watched)


def fitting_baseline(
    out: Path, *, endpoint: str, model: str, started: float | None, weight_version: str | None
) -> EarlierBaseline | None:
    """The newest baseline in ``out`` of this very process, with these weights; None where there is none."""
    if started is None:
        return None
    wanted = (endpoint, model, started, weight_version)
    found = [
        (run.name, EarlierBaseline(history=history, watched=watched))
        for run in out.glob("*/")
        if not run.is_symlink()
        and (watched := _watched_in(run)) is not None
        and wanted == (watched.endpoint, watched.model, watched.started, watched.weight_version)
        and (history := baseline_folder(run, watched.baselines) / HISTORY_FILE).exists()
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def _watched_in(run: Path) -> Watched | None:
    try:
        watched = read_description(run).watched
    except HistoryError:
        return None
    return watched if watched is not None and watched.baselines else None
