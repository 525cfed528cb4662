"""Keeps the run directory of a watch true: which checks there are, and how far it has come."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.check.noise.budget import budget_of_check
from harness.errors import HistoryError, UsageError
from harness.history.events import ServerReady
from harness.history.layout import BASELINE_FOLDER, CELLS_FOLDER, HISTORY_FILE, cell_folder
from harness.history.run_description import (
    ChosenRuntime,
    DescribedServer,
    RunDescription,
    Watched,
    read_description,
    write_description,
)
from harness.models.model import THE_SERVERS_OWN
from harness.runs.options import RunOptions
from harness.runs.plan import RunPlan, describe, describe_cell
from harness.scenario.cells import Cell


@dataclass(kw_only=True, eq=False)
class WatchRecord:
    """``run.json`` of a watch; every change is on disk at once, whole."""

    directory: Path
    keep: int
    """Sound checks that are kept; others are kept for good."""
    description: RunDescription
    _sound: dict[str, bool] = field(default_factory=dict)
    """By cell, oldest first."""

    @property
    def watched(self) -> Watched:
        """How far the watch has come."""
        assert self.description.watched is not None  # noqa: S101 - ``begin`` sets it
        return self.description.watched

    @property
    def baseline(self) -> Path:
        """The folder of the baseline that counts."""
        return baseline_folder(self.directory, self.watched)

    def note(self, **known: object) -> None:
        """Put down what has become known of the server, or of the watch.

        Raises:
            StorageError: it cannot be written.
        """
        self._write(watched=self.watched.model_copy(update=known))

    def add(self, cell: Cell, ready: ServerReady, *, number: int, is_sound: bool) -> None:
        """Make the check of that ``number`` a cell of the run, and remove sound ones that are too many.

        Raises:
            StorageError: it cannot be written.
        """
        self._sound[cell.id] = is_sound
        described = describe_cell(cell).model_copy(update={"one_of": budget_of_check(number).cells})
        server = DescribedServer(**ready.model_dump(include=set(DescribedServer.model_fields)))
        gone = set(too_many(self._sound, keep=self.keep))
        self._write(
            cells=_without(gone, {**self.description.cells, cell.id: described}),
            servers=_without(gone, {**self.description.servers, cell.id: server}),
            watched=self.watched.model_copy(update={"checks": number}),
        )
        # Only now: nobody who reads run.json may look for what is not there.
        for each in gone:
            del self._sound[each]
            shutil.rmtree(cell_folder(self.directory, each), ignore_errors=True)

    def finish(self, *, interrupted: bool) -> None:
        """Write that the watch has ended; a check that was under way is no cell.

        Raises:
            StorageError: it cannot be written.
        """
        for folder in (self.directory / CELLS_FOLDER).glob("*"):
            if folder.name not in self.description.cells:
                shutil.rmtree(folder, ignore_errors=True)
        self._write(finished_at=_now(), interrupted=interrupted)

    def _write(self, **changes: object) -> None:
        self.description = self.description.model_copy(update=changes)
        write_description(self.directory, self.description)


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
    description = describe(plan, started_at=_now()).model_copy(update={"watched": watched, "servers": {}})
    record = WatchRecord(directory=directory, keep=keep, description=description)
    record.note()
    return record


def too_many(sound: Mapping[str, bool], *, keep: int) -> list[str]:
    """Which cells are not kept: the oldest of those that are sound, and none that is not."""
    removable = [cell for cell, is_sound in sound.items() if is_sound]
    return removable[: max(0, len(removable) - keep)]


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
    return EarlierBaseline(history=baseline_folder(run, watched) / HISTORY_FILE, watched=watched)


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
        and (history := baseline_folder(run, watched) / HISTORY_FILE).exists()
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def _watched_in(run: Path) -> Watched | None:
    try:
        watched = read_description(run).watched
    except HistoryError:
        return None
    return watched if watched is not None and watched.baselines else None


def baseline_folder(run: Path, watched: Watched) -> Path:
    """Where the baseline of a watch is."""
    return run / BASELINE_FOLDER.format(number=watched.baselines)


def _without(gone: Iterable[str], told: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in told.items() if name not in set(gone)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
