"""Whole cells whose server is a process: what becomes of it, however the cell ends."""

from __future__ import annotations

import anyio
import psutil
import pytest

from harness.check import judge
from harness.check.result import Verdict
from harness.drive.cell import run_cell
from harness.history.events import Event
from harness.history.passes import Answer
from harness.history.recording import load_recording
from tests.drive.conftest import Driver

pytestmark = [
    pytest.mark.cell,
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]


@pytest.fixture
def driver(process_driver: Driver) -> Driver:
    """Here a server is a process."""
    return process_driver


async def test_a_healthy_process_is_never_called_corrupt(driver: Driver) -> None:
    """How quickly a busy machine lets it answer is no damage to its answers."""
    recording = await driver.run()
    assert recording.finished
    assert judge(recording).verdict not in {Verdict.CORRUPT, None}


async def test_a_server_that_dies_at_boot_is_infrastructure(driver: Driver) -> None:
    """The history says why, with the end of the server's log; there is no verdict."""
    recording = await driver.run(misbehave="die-at-boot")
    assert recording.failure is not None
    assert recording.failure.error == "ServerBootError"
    assert "Engine core initialization failed" in recording.failure.log_tail
    assert judge(recording).verdict is None


async def test_nothing_is_left_running(driver: Driver) -> None:
    """After a cell the server's processes are gone, whatever happened in it."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    await driver.run(misbehave="die-asleep")
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


async def test_cancellation_stops_the_server_and_is_recorded(driver: Driver) -> None:
    """An interrupted cell says so, keeps what it had, and leaves nothing running."""
    job = driver.job(driver.cell())
    with anyio.CancelScope() as scope:

        def stop(event: Event) -> None:
            if isinstance(event, Answer):
                scope.cancel()

        await run_cell(job, driver.runtime, watcher=stop)
    recording = load_recording(job.directory)
    assert recording.failure is not None
    assert recording.failure.interrupted
    assert not any(
        "fake_vllm" in " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)
    )
