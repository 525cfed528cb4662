"""Every shipped scenario that a CPU engine can host, on the fake: what is sound is called so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.check import judge
from harness.check.result import Verdict
from harness.drive.cell import CellJob, run_cell
from harness.history.recording import load_recording
from harness.scenario.cells import Cell, load_cells
from harness.servers.models import model_in_folder
from tests.drive.conftest import SCENARIOS, Driver

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.timeout(300)]  # minutes, all together

EXPECTED = {
    "level2-late-reload.prefix-cache-on": Verdict.CORRUPT,
    "level2-without-reload.prefix-cache-on": Verdict.CORRUPT,
    "lora-replaced-by-unload-load.prefix-cache-on": Verdict.CORRUPT,
    "lora-replaced-in-place.prefix-cache-on": Verdict.CORRUPT,
    "weight-update-without-reset.prefix-cache-on": Verdict.CORRUPT,
}
"""What vLLM does wrong without a fault and the fake does as well; all others are clean here."""

CELLS = {cell.id: cell for cell in load_cells([SCENARIOS]) if cell.scenario.requires in {None, "fault"}}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
async def test_a_shipped_scenario_comes_to_a_verdict(driver: Driver, cell: Cell) -> None:
    """On an engine without a fault none is inconclusive: each asks for all that its verdict takes."""
    arm = cell.arm.model_copy(update={"env": {"FAKE_VLLM": "slow:15"}})
    job = CellJob(
        cell=replace(cell, arm=arm),
        run_id="run",
        directory=Path(driver.folder) / "out",
        model=model_in_folder(driver.model, dtype="float32"),
    )
    await run_cell(job, driver.runtime, watcher=lambda _: None)
    result = judge(load_recording(job.directory))
    assert (result.verdict, result.reason) == (EXPECTED.get(cell.id, Verdict.CLEAN), result.reason)
