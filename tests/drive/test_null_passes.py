"""How many null passes a cell is given where its script does not say."""

from __future__ import annotations

import pytest

from harness.check.noise.limits import LEAST_NULL_ANSWERS
from harness.check.verdict import noise_is_known
from harness.drive.cell import EarlyLooks, run_cell
from harness.drive.script import MOST_NULL_PASSES
from harness.history.passes import Role
from harness.history.recording import load_recording
from tests.drive.conftest import Driver

pytestmark = pytest.mark.anyio

SCRIPT = """\
- probe: baseline
- null_transition: {NULL}
- sleep: {level: 1}
- wake_up: {}
- probe: after-wake
"""


async def null_passes(driver: Driver, *, options: str = "", misbehave: str = "") -> list[str]:
    """The cache conditions of all null passes of one cell, in order."""
    cell = driver.cell(script=SCRIPT.replace("NULL", options), more="evidence: [warm, rehit]")
    job = driver.job(cell, env={"FAKE_VLLM": misbehave})
    looks = EarlyLooks(knows_noise=lambda folder: noise_is_known(load_recording(folder)))
    await run_cell(job, driver.runtime, watcher=lambda _: None, looks=looks)
    recording = load_recording(job.directory)
    return [each.start.cache.value for each in recording.passes_of(Role.NULL)]


async def test_one_is_enough_where_everything_comes_again(driver: Driver) -> None:
    """As on an engine that computes in float32."""
    assert await null_passes(driver, options="evidence: [warm, cold]") == ["warm", "cold"]


@pytest.mark.cell
async def test_a_noisy_engine_is_given_four(driver: Driver) -> None:
    """That is what its answers are told from damage with."""
    assert MOST_NULL_PASSES == LEAST_NULL_ANSWERS
    asked = await null_passes(driver, options="evidence: [warm, cold]", misbehave="noise")
    assert asked == ["warm", "cold"] * 4


@pytest.mark.parametrize(("options", "misbehave", "given"), [("passes: 2", "", 2), ("passes: 1", "noise", 1)])
@pytest.mark.cell
async def test_a_script_that_says_how_many_is_obeyed(
    driver: Driver, options: str, misbehave: str, given: int
) -> None:
    """However noisy or quiet the engine is."""
    asked = await null_passes(driver, options=f"evidence: [warm], {options}", misbehave=misbehave)
    assert asked == ["warm"] * given
