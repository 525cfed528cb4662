"""The runs on disk over time, damaged and unfinished ones included; nothing is judged again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from harness.check.result import CellResult, RunResult
from harness.errors import HistoryError, InterruptedRunError
from harness.history.files import read_ordinary
from harness.history.layout import CELLS_FOLDER, RUN_FILE
from harness.history.run_description import RunDescription, read_description
from harness.report.tables import Row, Table
from harness.report.text import count
from harness.report.writer import VERDICT_FILE
from harness.runs.finding import NAMED_AFTER
from harness.runs.locking import is_held

_NOTHING = "-"
_TONES = {"clean": "better", "corrupt": "worse", "degraded": "worse"}


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One run as far as its directory tells."""

    name: str
    started: datetime
    runtime: str = _NOTHING
    vllm: str = _NOTHING
    cells: str = _NOTHING
    outcome: str
    """The verdict that was written, or why there is none."""
    tone: str
    result: RunResult | None = None
    """What was judged, where it was and can be read."""


def past_runs(out: Path) -> list[PastRun]:
    """Every run directory in ``out``, the newest last."""
    folders = (
        [path for path in out.iterdir() if path.is_dir() and not path.is_symlink()] if out.is_dir() else []
    )
    return sorted(map(_past_run, filter(_is_run, folders)), key=lambda run: (run.started, run.name))


def past_runs_table(runs: list[PastRun]) -> Table:
    """The runs as a table."""
    return Table(
        headings=("run", "started", "runtime", "vLLM", "cells", "verdict"),
        rows=tuple(
            Row(
                fields=(
                    run.name,
                    f"{run.started:%Y-%m-%d %H:%M}",
                    run.runtime,
                    run.vllm,
                    run.cells,
                    run.outcome,
                ),
                tone=run.tone,
            )
            for run in runs
        ),
    )


def _is_run(folder: Path) -> bool:
    if (folder / RUN_FILE).exists() or (folder / CELLS_FOLDER).is_dir():
        return True
    try:
        datetime.strptime(folder.name[:19], NAMED_AFTER)  # noqa: DTZ007 - only whether it is one
    except ValueError:
        return False
    return True


def _past_run(folder: Path) -> PastRun:
    try:
        description = read_description(folder)
    except HistoryError as error:
        cause = error.cause.removeprefix(f"{error.path}: ")
        return _damaged(folder, f"{RUN_FILE} {cause}")
    outcome, told = _outcome(folder, description)
    return PastRun(
        name=folder.name,
        started=_moment(description.started_at) or _last_change(folder),
        runtime=description.runtime.name or _NOTHING,
        vllm=", ".join(description.vllm_versions) or _NOTHING,
        cells=_tally(told) if told else count(len(description.cells), "cell"),
        outcome=outcome,
        tone=_TONES.get(outcome, "damaged"),
        result=told,
    )


def _damaged(folder: Path, why: str) -> PastRun:
    return PastRun(name=folder.name, started=_last_change(folder), outcome=f"damaged: {why}", tone="damaged")


def _outcome(folder: Path, description: RunDescription) -> tuple[str, RunResult | None]:
    if is_held(folder):
        return "running", None
    result: RunResult | None = None
    try:
        result = RunResult.model_validate_json(read_ordinary(folder / VERDICT_FILE))
        verdict = result.verdict.value if result.verdict else "error"
    except FileNotFoundError:
        verdict = "not judged"
    except (OSError, ValidationError):
        verdict = f"damaged: {VERDICT_FILE} cannot be read; `sleepwake report` writes it again"
    if description.interrupted:
        return "interrupted" if verdict == "error" else f"{verdict}, interrupted", result
    if description.finished_at is None:
        return f"{verdict}, unfinished", result
    return verdict, result


def _tally(result: RunResult) -> str:
    outcomes = Counter(map(_outcome_of, result.cells))
    return ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common()) or "none"


def _outcome_of(cell: CellResult) -> str:
    if cell.verdict:
        return cell.verdict.value
    return "interrupted" if cell.error == InterruptedRunError.__name__ else "error"


def _moment(value: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value)).astimezone()
    except ValueError:
        return None


def _last_change(folder: Path) -> datetime:
    return datetime.fromtimestamp(folder.stat().st_mtime).astimezone()
