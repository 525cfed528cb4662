"""Judging a run on disk again, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

from harness.check import judge, judge_run
from harness.check.noise.budget import ErrorBudget, told_of_a_sequence
from harness.check.result import CellResult, RunResult
from harness.history.integrity import is_sealed
from harness.history.layout import HISTORY_FILE, SERVER_LOG, cell_folder
from harness.history.recording import Recording, load_recording
from harness.history.run_description import RunDescription, read_description
from harness.report import Report, assemble
from harness.servers.logs import tail

_LOG_LINES = 200
"""Lines from the end of a server's log that reports show."""


@dataclass(frozen=True, kw_only=True)
class JudgedRun:
    """A run directory with its verdict and everything the reports tell."""

    directory: Path
    result: RunResult
    recordings: Mapping[str, Recording]
    description: RunDescription

    @property
    def report(self) -> Report:
        """What the renderings take."""
        return assemble(
            self.result,
            self.recordings,
            run=self.description,
            server_logs={
                cell: tail(cell_folder(self.directory, recording.log_cell) / SERVER_LOG, _LOG_LINES)
                for cell, recording in self.recordings.items()
            },
        )


def judge_directory(directory: Path) -> JudgedRun:
    """Judge a stored run: a pure function of what is in ``directory``.

    Raises:
        HistoryError: it is not a run directory, or a history in it cannot be understood.
    """
    description = read_description(directory)
    recordings: dict[str, Recording] = {}
    results: list[CellResult] = []
    budget = budget_of(description)
    for cell, described in description.cells.items():
        folder = cell_folder(directory, cell)
        if not (folder / HISTORY_FILE).exists():
            results.append(_without_history(cell, description))
            continue
        recordings[cell] = load_recording(folder, ended_with=description.histories.get(cell))
        own = ErrorBudget(cells=described.one_of, in_turn=True) if described.one_of else budget
        results.append(judge(recordings[cell], budget=own))
    outside_cells = description.milliseconds_outside_cells
    result = judge_run(results, run=description.run, budget=budget, outside_cells=outside_cells)
    unsealed = (cell for cell in recordings if not is_sealed(cell_folder(directory, cell) / HISTORY_FILE))
    result = result.model_copy(update={"unsealed": tuple(unsealed)})
    if any(described.one_of for described in description.cells.values()):
        # The k-th check is one of k * (k + 1), and not every check is kept.
        checks = isqrt(max(described.one_of or 0 for described in description.cells.values()))
        rate = told_of_a_sequence(checks=description.watched.checks if description.watched else checks)
        result = result.model_copy(update={"false_alarms": rate})
    return JudgedRun(directory=directory, result=result, recordings=recordings, description=description)


def budget_of(description: RunDescription) -> ErrorBudget:
    """What each cell of a run is judged with; a shard's cells as all those of the matrix it is a part of."""
    cells = description.shard.matrix if description.shard else description.cells
    return ErrorBudget(cells=max(1, len(cells)))


def _without_history(cell: str, description: RunDescription) -> CellResult:
    """A cell of which nothing is recorded; one that ended has lost it."""
    described, after = description.cells[cell], description.ended_with
    reason, error = "it was not run", "the run ended before this cell began"
    if cell in description.histories:
        reason = "its history is missing"
        error = f"it was run, and {HISTORY_FILE} is not in its folder any more"
    elif after is not None:
        error = f"the run was to end with a cell like {after} (--exit-first)"
    return CellResult(
        cell=cell,
        scenario=described.scenario.name or cell,
        arm=described.arm,
        verdict=None,
        reason=reason,
        error=error,
    )
