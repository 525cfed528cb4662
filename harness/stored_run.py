"""A run on disk: finding it, and judging it again without a server."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from harness.check import judge, judge_run
from harness.check.result import CellResult, RunResult
from harness.errors import HistoryError
from harness.history.layout import (
    HISTORY_FILE,
    LATEST_LINK,
    OUTSIDE_CELLS,
    RUN_FILE,
    SERVER_LOG,
    cell_folder,
)
from harness.history.recording import Recording, load_recording
from harness.history.time_spent import TimeSpent
from harness.report import Report, assemble
from harness.servers.logs import tail

REPORTS = Path("reports")
"""Where runs are written unless told otherwise."""
_LOG_LINES = 200
"""Lines from the end of a server's log that reports show."""


@dataclass(frozen=True, kw_only=True)
class JudgedRun:
    """A run directory with its verdict and everything the reports tell."""

    directory: Path
    result: RunResult
    recordings: Mapping[str, Recording]
    description: Mapping[str, JsonValue]

    @property
    def report(self) -> Report:
        """What the renderings take."""
        return assemble(
            self.result,
            self.recordings,
            run=self.description,
            scenario_files=_scenario_files(self.description),
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
    for cell, planned in planned_cells(description, directory).items():
        folder = cell_folder(directory, cell)
        if not (folder / HISTORY_FILE).exists():
            results.append(_never_run(cell, planned))
            continue
        recordings[cell] = load_recording(folder)
        results.append(judge(recordings[cell]))
    result = judge_run(results, run=str(description["run"]), outside_cells=outside_cells(description))
    return JudgedRun(directory=directory, result=result, recordings=recordings, description=description)


def find_run(name: str | None, *, out: Path = REPORTS) -> Path:
    """The run directory a user means: a path, a name under ``out``, or without a name the latest.

    Raises:
        HistoryError: there is no such run.
    """
    candidates = [out / LATEST_LINK] if name is None else [Path(name), out / name]
    for candidate in candidates:
        if (candidate / RUN_FILE).is_file():
            return candidate.resolve()
    raise HistoryError("no run here", path=candidates[0], remedy=_which_run(name, out))


def _which_run(name: str | None, out: Path) -> str:
    """What to name instead: the run with the nearest name, else any."""
    runs = [path.parent for path in out.glob(f"*/{RUN_FILE}")]
    nearest = difflib.get_close_matches(Path(name or "").name, [run.name for run in runs], n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else "name a run directory, for example reports/latest"


def read_description(directory: Path) -> Mapping[str, JsonValue]:
    """Read ``run.json``.

    Raises:
        HistoryError: it is missing, damaged, or does not describe a run.
    """
    path = directory / RUN_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(
            f"cannot be read: {error}", path=path, remedy="name a run directory written by sleepwake"
        ) from error
    if not isinstance(description, dict) or not {"run", "cells"} <= description.keys():
        raise HistoryError("does not describe a run", path=path, remedy="name a run directory")
    return description


def planned_cells(
    description: Mapping[str, JsonValue], directory: Path
) -> Mapping[str, Mapping[str, JsonValue]]:
    """What a run's description says of each of its cells.

    Raises:
        HistoryError: it names none.
    """
    cells = description["cells"]
    if not isinstance(cells, dict):
        raise HistoryError("names no cells", path=directory / RUN_FILE, remedy="name a run directory")
    return {name: cell for name, cell in cells.items() if isinstance(cell, dict)}


def outside_cells(description: Mapping[str, JsonValue]) -> TimeSpent:
    """What the time of a run was spent on besides its cells; nothing where it was not written down."""
    try:
        return TimeSpent.model_validate(description.get(OUTSIDE_CELLS))
    except ValidationError:
        return TimeSpent()


def _never_run(cell: str, planned: Mapping[str, JsonValue]) -> CellResult:
    scenario = planned.get("scenario")
    name = scenario.get("name") if isinstance(scenario, dict) else None
    return CellResult(
        cell=cell,
        scenario=str(name or cell),
        arm=str(planned.get("arm", "")),
        verdict=None,
        reason="it was not run",
        error="the run ended before this cell began",
    )


def _scenario_files(description: Mapping[str, JsonValue]) -> dict[str, str]:
    cells = description["cells"]
    files: dict[str, str] = {}
    for cell in cells.values() if isinstance(cells, dict) else ():
        if isinstance(cell, dict) and isinstance(scenario := cell.get("scenario"), dict):
            files[str(scenario.get("name"))] = str(cell.get("scenario_file", ""))
    return files
