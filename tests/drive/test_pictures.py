"""Prompts that show a picture, against the fake server and against a small model that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check import judge
from harness.check.result import Cause, Verdict
from harness.drive.cell import run_cell
from harness.drive.job import CellJob
from harness.history.passes import Control, Role
from harness.history.recording import Recording, load_recording
from harness.models.model import model_in_folder
from harness.scenario.cells import Cell, load_cells
from harness.servers.process.runtime import ProcessRuntime
from tests.drive.conftest import SCENARIOS, Driver
from tests.picture_model import write_picture_model

pytestmark = pytest.mark.anyio


def shipped_cell() -> Cell:
    """The shipped scenario, with prefix caching."""
    return load_cells([SCENARIOS / "multimodal_cache.yaml"])[0]


async def run_shipped(driver: Driver, fault: str | None = None) -> Recording:
    """Run it on the fake server."""
    job = driver.job(shipped_cell(), fault=fault)
    await run_cell(job, driver.runtime, watcher=lambda _: None)
    return load_recording(job.directory)


@pytest.mark.cell
async def test_the_picture_decides_the_answer(driver: Driver) -> None:
    """Prompts that differ in nothing but their picture have the same text and other answers; all is clean."""
    recording = await run_shipped(driver)
    baseline = next(iter(recording.passes_of(Role.BASELINE))).answers
    first = recording.prompts["red-disc"]
    twins = [each for each in recording.prompts.values() if each.text == first.text and not each.held_out]
    assert len(twins) > 1
    assert len({each.picture for each in twins}) == len(twins)
    assert len({baseline[each.id].token_ids for each in twins}) > 1
    assert baseline[first.id].prompt_tokens == len(first.token_ids)
    assert judge(recording).verdict is Verdict.CLEAN, judge(recording).reason


@pytest.mark.cell
async def test_pictures_are_forgotten_before_weights_are_suspected(driver: Driver) -> None:
    """What is kept of pictures is a control of its own; the fake keeps nothing, so it heals nothing here."""
    recording = await run_shipped(driver, "lose-weights")
    asked = [each.start.control for each in recording.passes_of(Role.CONTROL)]
    healing = [each for each in asked if each is not Control.ASKED_AGAIN]
    assert healing.index(Control.RESET_ENCODER_CACHE) + 1 == healing.index(Control.RELOAD_WEIGHTS)
    assert {"/reset_mm_cache", "/reset_encoder_cache"} <= {call.path for call in recording.calls}
    assert judge(recording).cause is Cause.LOST_WEIGHTS


@pytest.fixture(scope="module")
def picture_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that reads pictures."""
    folder = tmp_path_factory.mktemp("picture-model") / "model"
    write_picture_model(folder)
    return folder


@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("fault", "verdict", "cause"),
    [
        (None, Verdict.CLEAN, None),
        ("lose-encoder-outputs", Verdict.CORRUPT, Cause.ENCODER_CACHE),
    ],
)
async def test_on_the_real_engine(
    tmp_path: Path, picture_model: Path, fault: str | None, verdict: Verdict, cause: Cause | None
) -> None:
    """A healthy engine is clean; encoder outputs that were lost are noticed and called by their name."""
    job = CellJob(
        cell=shipped_cell(),
        run_id="run",
        directory=tmp_path / "out",
        model=model_in_folder(picture_model, dtype="float32"),
        fault=fault,
    )
    runtime = ProcessRuntime(engine="cpu", cache=tmp_path / "cache")
    await run_cell(job, runtime, watcher=lambda _: None)
    result = judge(load_recording(job.directory))
    assert (result.verdict, result.cause) == (verdict, cause), result.reason
