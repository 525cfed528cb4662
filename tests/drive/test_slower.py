"""Three cycles of the default scenarios show an engine that is slower after waking, and no healthy one.

The fake takes as long as an engine on a machine whose speed goes up and down by 40% within minutes, whose
first prompt is read four times more slowly than any other, and the first one after each wake-up by 15%.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from harness.check import judge
from harness.check.result import Cause, CellResult, Verdict
from harness.drive.cell import run_cell
from harness.drive.job import CellJob
from harness.history.events import Event
from harness.history.passes import Answer, PassStarted, Role
from harness.history.recording import Recording, load_recording
from harness.models.model import model_in_folder
from harness.servers.base import MachineTimes
from tests.drive.conftest import Driver, shipped_cells
from tests.fake_vllm.in_process import InProcessServer
from tests.virtual_time import VirtualTimeLoop

pytestmark = [pytest.mark.anyio, pytest.mark.cell]  # half a minute, all together

CELLS = {cell.id: cell for cell in shipped_cells()}
LEVELS = ["prefix-cache-level1.prefix-cache-on", "prefix-cache-level2.prefix-cache-on"]

SHOWS = {
    "slow-steps": "a token takes",
    "slow-prefill": "a request that is alone waits",
    "slow-wake-ups": "waking up",
}
"""What is said of each fault, among other things."""


async def recorded(
    driver: Driver,
    cell: str,
    *,
    seed: int,
    fault: str | None = None,
    watcher: Callable[[Event], None] = lambda _: None,
) -> Recording:
    """A cell of the default run, with few and short answers, on a machine that changes as ``seed`` says."""
    chosen = CELLS[cell]
    scenario = chosen.scenario.model_copy(
        update={
            "sampling": chosen.scenario.sampling.model_copy(update={"max_tokens": 16}),
            "kinds": None,  # beyond the looks between which anything is timed
        }
    )
    arm = chosen.arm.model_copy(update={"env": {"FAKE_VLLM": f"takes-time:{seed}"}})
    job = CellJob(
        cell=replace(chosen, scenario=scenario, arm=arm, prompts=chosen.prompts[:4]),
        run_id="run",
        directory=Path(driver.folder) / "out",
        model=model_in_folder(driver.model, dtype="float32"),
        fault=fault,
    )
    await run_cell(job, driver.runtime, watcher=watcher)
    return load_recording(job.directory)


def said(result: CellResult) -> list[str]:
    """All that was found about speed."""
    return [finding.message for finding in result.findings if finding.checker == "speed"]


@pytest.mark.parametrize("fault", SHOWS)
@pytest.mark.parametrize("cell", LEVELS)
async def test_an_engine_that_is_slower_after_waking_is_degraded(
    driver: Driver, cell: str, fault: str
) -> None:
    """Slower steps, slower prompts and slower wake-ups show in three cycles."""
    result = judge(await recorded(driver, cell, seed=1, fault=fault))
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SPEED), result.reason
    assert any(message.startswith(SHOWS[fault]) for message in said(result)), said(result)


@pytest.mark.parametrize("seed", range(10))
async def test_a_healthy_engine_on_an_unsteady_machine_is_silent(driver: Driver, seed: int) -> None:
    """Nothing is found about its speed, not even a hint."""
    result = judge(await recorded(driver, LEVELS[seed % 2], seed=seed))
    assert (result.verdict, said(result)) == (Verdict.CLEAN, []), result.reason


async def test_a_stop_in_the_middle_of_a_clean_cell_leaves_it_clean(driver: Driver) -> None:
    """Nobody ran for 14 seconds, as the next beat notices: the times of that pass are not judged."""
    judged: list[int] = []

    def stand_still(event: Event) -> None:
        if isinstance(event, PassStarted) and event.role is Role.AFTER:
            judged.append(event.number)
        elif isinstance(event, Answer) and judged[1:] == [event.pass_number]:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            loop.clock.now_s += 14
            judged.append(0)

    recording = await recorded(driver, LEVELS[0], seed=1, watcher=stand_still)
    assert len(recording.stops) == 1
    result = judge(recording)
    assert (result.verdict, said(result)) == (Verdict.CLEAN, []), result.reason
    assert result.speed.startswith("sleepwake itself was stopped for 1")
    assert "the times of 1 pass" in result.speed


@pytest.mark.parametrize("fault", SHOWS)
async def test_under_load_a_slower_engine_is_inconclusive(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Others used a quarter of the machine all the time, and may have made it slow."""

    async def look(_: InProcessServer) -> MachineTimes:
        now = anyio.current_time()
        return MachineTimes(cores=2, busy_seconds=now / 2, own_seconds=0.0, engine_seconds=0.0)

    monkeypatch.setattr(InProcessServer, "look_at_machine", look)
    result = judge(await recorded(driver, LEVELS[0], seed=1, fault=fault))
    assert (result.verdict, result.cause) == (Verdict.INCONCLUSIVE, None), result.reason
    assert "other processes used 25% of the machine's processors" in result.reason
