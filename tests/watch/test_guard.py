"""A whole watch over a fake server that somebody else drives."""

from __future__ import annotations

import random

import anyio
import pytest

from harness.check.result import Cause, Verdict
from harness.runs.judging import judge_directory
from tests.fake_vllm.behaviours import Fault
from tests.watch.conftest import Watches

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

WAKE_UPS = 20
BUG, LOST = 7, 13
"""Before which wake-up the founding bug is planted, and weights are lost."""


async def test_every_wake_up_is_noticed_and_two_are_alarms(watches: Watches) -> None:
    """Twenty at random: the founding bug before one, weights lost before another, and no other alarm."""
    drawn = random.Random(4)  # noqa: S311 - no secret
    async with watches.serving() as server, watches.over(server) as watched:
        for number in range(1, WAKE_UPS + 1):
            await anyio.sleep(drawn.uniform(0, 20))
            if number == BUG:
                watched.engine.faults.add(Fault.KEEP_PREFIX_CACHE)
            await watched.post("/sleep", level="2" if number == LOST else "1")
            await anyio.sleep(drawn.uniform(0, 3))
            await watched.post("/wake_up")
            if number in {BUG, LOST}:
                await watched.until_judged()
                watched.engine.faults.clear()
                watched.engine.memory.reload_weights(None)
        await watched.until_judged()
    assert watched.status.wake_ups == WAKE_UPS
    alarms = [(result.cause, result.verdict) for _, result in watched.judged if result.verdict != "clean"]
    assert alarms == [(Cause.STALE_PREFIX_CACHE, Verdict.CORRUPT), (Cause.UNKNOWN, Verdict.CORRUPT)]
    assert watched.status.not_ready is None
    judged = judge_directory(watched.directory).result
    assert {cell.cell: cell.verdict for cell in judged.cells} == {
        result.cell: result.verdict for _, result in watched.judged
    }
    assert judged.exit_code == 1
