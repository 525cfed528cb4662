"""What the runs on disk say over time: verdicts, noise, seconds and bytes, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.check.result import CellResult, RunResult
from harness.errors import HistoryError
from harness.history.layout import HISTORY_FILE, cell_folder
from harness.history.recording import load_recording
from harness.report.measures import Measure, measures
from harness.report.trends import PastCell, PastRunOfCells
from harness.runs.listing import PastRun, past_runs


def past_cells(out: Path, *, last: int) -> list[PastRunOfCells]:
    """The newest ``last`` runs in ``out`` that were judged, the oldest first."""
    judged = [run for run in past_runs(out) if run.result is not None]
    return [_told(out / run.name, run, run.result) for run in judged[-last:] if run.result is not None]


def _told(folder: Path, run: PastRun, result: RunResult) -> PastRunOfCells:
    return PastRunOfCells(
        name=run.name,
        started=run.started,
        vllm=run.vllm,
        outcome=run.outcome,
        cells={cell.cell: _cell(folder, cell) for cell in result.cells},
    )


def _cell(folder: Path, cell: CellResult) -> PastCell:
    return PastCell(result=cell, measures=(*_noise(cell), *_measures(cell_folder(folder, cell.cell))))


def _noise(cell: CellResult) -> Iterator[Measure]:
    if cell.noise is not None and cell.noise.largest_logprob_shift is not None:
        yield Measure(name="noise, largest shift", value=cell.noise.largest_logprob_shift, unit="nat")


def _measures(folder: Path) -> Iterable[Measure]:
    """What the history says; nothing where it is gone or damaged, since the verdict still stands."""
    if not (folder / HISTORY_FILE).exists():
        return []
    try:
        return measures(load_recording(folder))
    except HistoryError:
        return []
