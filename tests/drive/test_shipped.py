"""Every shipped scenario that a CPU engine can host, on the fake: what is sound is called so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.check import judge
from harness.check.result import Cause, CellResult, Verdict
from harness.drive.cell import run_cell
from harness.drive.job import CellJob
from harness.history.recording import load_recording
from harness.models.model import model_in_folder
from harness.scenario.cells import Cell
from tests.drive.conftest import Driver, shipped_cells

pytestmark = [pytest.mark.anyio, pytest.mark.cell]  # a minute, all together

EXPECTED = {
    "level2-late-reload.prefix-cache-on": Verdict.CORRUPT,
    "level2-without-reload.prefix-cache-on": Verdict.CORRUPT,
    "lora-replaced-by-unload-load.prefix-cache-on": Verdict.CORRUPT,
    "lora-replaced-in-place.prefix-cache-on": Verdict.CORRUPT,
    "transfer-incomplete.prefix-cache-on": Verdict.CORRUPT,
    "weight-update-without-reset.prefix-cache-on": Verdict.CORRUPT,
}
"""What vLLM does wrong without a fault and the fake does as well; all others are clean here."""

CELLS = {cell.id: cell for cell in shipped_cells() if cell.scenario.requires in {None, "fault"}}

READ_AGAIN = {
    name: CELLS[name] for name in ("first-look.prefix-cache-on", "prefix-cache-level1.prefix-cache-on")
}
"""The cells of the default run that read again what was cached after waking."""

FORGETS_NOTHING = {
    "failed-reload.prefix-cache-on",
    "keep-streams.prefix-cache-on",
    "own-weights-reload-is-idempotent.prefix-cache-on",
    "pause-resume.prefix-cache-on",
    "release-kv-memory.prefix-cache-on",
    "transfer-begun-again.prefix-cache-on",
    "transfer-with-requests-in-flight.prefix-cache-on",
    "transfer-without-a-pause.prefix-cache-on",
    "weight-update-with-reset.prefix-cache-on",
    "weights-transferred.prefix-cache-on",
}
"""Where nothing throws KV blocks away by a sleep, so that hashes that outlive one do no harm."""


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
async def test_a_shipped_scenario_comes_to_a_verdict(driver: Driver, cell: Cell) -> None:
    """On an engine without a fault none is inconclusive: each asks for all that its verdict takes."""
    result = await _run(driver, cell)
    assert (result.verdict, result.reason) == (EXPECTED.get(cell.id, Verdict.CLEAN), result.reason)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
async def test_the_founding_bug_is_called_by_its_name_wherever_it_shows(driver: Driver, cell: Cell) -> None:
    """However little a scenario asks, stale blocks are not taken for anything else."""
    result = await _run(driver, cell, fault="keep-prefix-cache")
    spared = cell.id in FORGETS_NOTHING or "--no-enable-prefix-caching" in cell.arm.args
    cause = None if spared else Cause.STALE_PREFIX_CACHE
    if cell.scenario.name in {"level2-without-reload", "transfer-incomplete"}:
        cause = Cause.LOST_WEIGHTS
    assert result.cause is cause, result.reason
    assert result.verdict is (Verdict.CORRUPT if cause else Verdict.CLEAN)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [("damage-blocks-cached-after-wake", Verdict.CORRUPT), ("dead-prefix-cache", Verdict.DEGRADED)],
)
@pytest.mark.parametrize("cell", READ_AGAIN.values(), ids=READ_AGAIN)
async def test_the_default_run_reads_again_what_was_cached_after_waking(
    driver: Driver, cell: Cell, fault: str, verdict: Verdict
) -> None:
    """Damage that only a second reading shows is found, and so is a cache that is not read at all."""
    result = await _run(driver, cell, fault=fault)
    assert result.verdict is verdict, result.reason


async def _run(driver: Driver, cell: Cell, *, fault: str | None = None) -> CellResult:
    arm = cell.arm.model_copy(update={"env": {"FAKE_VLLM": "slow:15"}})
    job = CellJob(
        cell=replace(cell, arm=arm),
        run_id="run",
        directory=Path(driver.folder) / "out",
        model=model_in_folder(driver.model, dtype="float32"),
        fault=fault,
    )
    await run_cell(job, driver.runtime, watcher=lambda _: None)
    return judge(load_recording(job.directory))
