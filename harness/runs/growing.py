"""A run that grows by one check after the other, for months perhaps: a guard's, or a watch's.

Every check is a cell; the baselines lie beside them.  Of the sound checks only the last ones are kept, the
others for good.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from harness.check.noise.budget import budget_of_check
from harness.history.layout import BASELINE_FOLDER, CELLS_FOLDER, cell_folder
from harness.history.run_description import (
    DescribedCell,
    DescribedServer,
    RunDescription,
    now,
    write_description,
)

_Described = TypeVar("_Described")


@dataclass(kw_only=True, eq=False)
class GrowingRun:
    """Its directory and its ``run.json``, of which every change is on disk at once, whole.

    Every method raises :class:`~harness.errors.StorageError` where it cannot be written.
    """

    directory: Path
    description: RunDescription
    keep: int
    """How many sound checks are kept."""
    _sound: list[str] = field(default_factory=list)
    """Oldest first."""

    def write(self, **changes: object) -> None:
        """Put down what has changed."""
        self.description = self.description.model_copy(update=changes)
        write_description(self.directory, self.description)

    def add(
        self,
        cell: str,
        described: DescribedCell,
        *,
        number: int,
        server: DescribedServer | None = None,
        **also: object,
    ) -> None:
        """Make the check of that ``number`` a cell, judged with its own part of the error rate."""
        described = described.model_copy(update={"one_of": budget_of_check(number).cells})
        servers = {} if server is None else {"servers": {**self.description.servers, cell: server}}
        self.write(cells={**self.description.cells, cell: described}, **servers, **also)

    def note_sound(self, cell: str) -> None:
        """Note that a check was sound; the oldest of those make room."""
        self._sound.append(cell)
        gone = self._sound[: max(0, len(self._sound) - self.keep)]
        if not gone:
            return
        del self._sound[: len(gone)]
        told = self.description
        servers = {"servers": _without(gone, told.servers)} if told.servers else {}
        self.write(cells=_without(gone, told.cells), **servers)
        # Only now: nobody who reads run.json may look for what is not there.
        for each in gone:
            shutil.rmtree(cell_folder(self.directory, each), ignore_errors=True)

    def finish(self, *, interrupted: bool) -> None:
        """Write that nothing more will come; a check that was under way, and no cell yet, is gone."""
        for folder in (self.directory / CELLS_FOLDER).glob("*"):
            if folder.name not in self.description.cells:
                shutil.rmtree(folder, ignore_errors=True)
        self.write(finished_at=now(), interrupted=interrupted)


def baseline_folder(run: Path, number: int) -> Path:
    """Where the baseline of that number is."""
    return run / BASELINE_FOLDER.format(number=number)


def _without(gone: Container[str], told: Mapping[str, _Described]) -> dict[str, _Described]:
    return {name: value for name, value in told.items() if name not in gone}
