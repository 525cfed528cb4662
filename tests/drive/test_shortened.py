"""Cells that end as soon as their verdict is certain, against the fake server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.check import judge
from harness.check.result import Cause, Verdict
from harness.check.verdict import decided
from harness.drive.cell import EarlyLooks, LooksAt, run_cell
from harness.history.events import CellFinished, CellShortened, Event
from harness.history.layout import HISTORY_FILE
from harness.history.observations import StepFinished
from harness.history.recording import gather, load_recording
from harness.history.store import read_events
from tests.drive.conftest import Driver

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

LAST_OF_CYCLE_1 = "3[1].3"


async def run(
    driver: Driver, is_decided: LooksAt, *, fault: str | None = None, misbehave: str = ""
) -> list[Event]:
    """Run the small scenario of two cycles; return its history."""
    job = driver.job(driver.cell(), fault=fault, env={"FAKE_VLLM": misbehave})
    await run_cell(job, driver.runtime, watcher=lambda _: None, looks=EarlyLooks(is_decided=is_decided))
    return list(read_events(job.directory / HISTORY_FILE))


def never(_: Path) -> bool:
    """As with ``--thorough``."""
    return False


def shortened(history: Sequence[Event]) -> list[Event]:
    """The same history, ended after its first cycle."""
    end = next(
        number
        for number, event in enumerate(history, start=1)
        if isinstance(event, StepFinished) and event.step == LAST_OF_CYCLE_1
    )
    t = history[end - 1].t
    return [*history[:end], CellShortened(t=t, skipped=("3[2].1",)), CellFinished(t=t)]


@pytest.mark.parametrize(
    ("fault", "misbehave", "is_certain"),
    [
        ("keep-prefix-cache", "", True),
        ("lose-weights", "", True),
        ("keep-prefix-cache", "noise", False),
        (None, "garbage-after-wake", None),
        (None, "wrong-usage-after-wake", None),
        (None, "fingerprint-after-wake", None),
        (None, "sleep-does-nothing", False),
    ],
)
async def test_what_is_left_out_would_change_nothing(
    driver: Driver,
    fault: str | None,
    misbehave: str,
    is_certain: bool | None,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Where the first cycle decides, the history of both cycles has its verdict and its cause."""
    history = await run(driver, never, fault=fault, misbehave=misbehave)
    whole, short = judge(gather(history)), judge(gather(shortened(history)))
    certain = decided(gather(shortened(history)))
    assert is_certain in {certain, None}
    assert not certain or (short.verdict, short.cause) == (whole.verdict, whole.cause)


async def test_a_proven_cell_leaves_out_its_further_cycles(driver: Driver) -> None:
    """It says which steps, and the first cycle is whole, controls included."""
    history = await run(driver, lambda folder: decided(load_recording(folder)), fault="lose-weights")
    recording = gather(history)
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS)
    assert result.skipped == ("3[2].1", "3[2].2", "3[2].3")
    assert {step.cycle for step in recording.steps} == {0, 1}
    assert recording.finished


async def test_a_clean_cell_is_never_shortened(driver: Driver) -> None:
    """Its bound rests on every answer of the script, and nobody even asks."""
    asked: list[Path] = []

    def always(folder: Path) -> bool:
        asked.append(folder)
        return True

    recording = gather(await run(driver, always))
    assert (recording.skipped, asked) == ((), [])
    assert {step.cycle for step in recording.steps} == {0, 1, 2}
