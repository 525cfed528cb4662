"""What ``run.json`` says of histories while a run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.drive.recorder import unwatched
from harness.history.events import CellFailed, CellFinished, Event
from harness.history.integrity import tip
from harness.history.layout import HISTORY_FILE, cell_folder
from harness.history.run_description import ChosenRuntime, read_description
from harness.history.store import HistoryWriter
from harness.installation import shipped_scenarios
from harness.models.model import model_in_folder
from harness.runs.options import RunOptions
from harness.runs.plan import RunPlan
from harness.runs.record import RunRecord, recorded
from harness.scenario.cells import load_cells
from tests.history.strategies import cell_started

BEGUN = cell_started()


@pytest.fixture
def plan(tmp_path: Path, toy_model_folder: Path) -> RunPlan:
    """A run of one cell."""
    (tmp_path / "run").mkdir()
    return RunPlan(
        directory=tmp_path / "run",
        cells=tuple(load_cells([shipped_scenarios() / "first_look.yaml"])),
        model=model_in_folder(toy_model_folder, dtype="float32"),
        runtime=ChosenRuntime(name="process"),
        options=RunOptions(),
        command=("sleepwake", "run"),
    )


def told(plan: RunPlan, record: RunRecord, event: Event) -> dict[str, str]:
    """What is known of histories after an event of the one cell."""
    record.noting(plan.cells[0].id, unwatched)(event)
    return dict(read_description(plan.directory).histories)


def written(folder: Path) -> str | None:
    """Write a history that has ended; return its digest."""
    with HistoryWriter(folder / HISTORY_FILE) as writer:
        writer.write(BEGUN)
        writer.write(CellFinished(t=1.0))
    return tip(folder / HISTORY_FILE)


def test_how_a_history_ended_is_known_until_it_begins_anew(plan: RunPlan) -> None:
    """A cell that starts again on a server of its own has another history then."""
    cell = plan.cells[0].id
    with recorded(plan) as record:
        assert told(plan, record, BEGUN) == {}
        digest = written(cell_folder(plan.directory, cell))
        assert told(plan, record, CellFinished(t=1.0)) == {cell: digest}
        assert told(plan, record, BEGUN) == {}


def test_what_has_no_history_of_its_own_is_left_alone(plan: RunPlan) -> None:
    """What the trials of a selftest have in common is told as a cell's and stands elsewhere."""
    with recorded(plan) as record:
        for event in (CellFinished(t=1.0), CellFailed(t=1.0, error="E", cause="c", remedy="r", log_tail="")):
            assert told(plan, record, event) == {}
