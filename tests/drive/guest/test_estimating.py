"""How long a run on a server that is not ours will take."""

from __future__ import annotations

import pytest

from harness.drive.guest.announcing import announcement
from harness.drive.guest.estimating import tokens_asked, tokens_per_second
from harness.scenario.cells import Cell, load_cells
from harness.vllm_api.connection import connect
from tests.drive.conftest import SCENARIOS, Driver
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.threads import Served


def small(driver: Driver) -> Cell:
    """Four prompts of 24 tokens; a baseline, a null transition, and a probe after each of two cycles."""
    return driver.cell()


def test_all_that_a_script_asks_is_counted(driver: Driver) -> None:
    """Warm, re-hit and cold of the baseline, warm and cold of a null pass and of the probes of two cycles."""
    assert tokens_asked([small(driver)]) == (3 + 2 + 2 * 2) * 4 * 24
    assert tokens_asked([small(driver)] * 2) == 2 * tokens_asked([small(driver)])


def test_every_shipped_scenario_can_be_estimated() -> None:
    """Whatever its script is made of, it asks for something."""
    cells = load_cells([SCENARIOS])
    assert all(tokens_asked([cell]) > 0 for cell in cells)


@pytest.mark.anyio
async def test_one_batch_tells_the_speed(driver: Driver, served: Served) -> None:
    """As many requests as the scripts send at once, counted as our own; no speed is told of a refusal."""
    async with connect(served.start()) as connection:
        speed = await tokens_per_second(connection, [small(driver)])
        assert speed is not None
        assert speed > 0
        assert connection.asked.number == small(driver).scenario.concurrency
    async with connect(served.start(Misbehaviour({Behaviour.WANTS_KEY: 0}))) as connection:
        assert await tokens_per_second(connection, [small(driver)]) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "puts it to sleep 3 times; afterwards"),
        (20.0, "puts it to sleep 3 times, less than a minute; afterwards"),
        (80.0, "puts it to sleep 3 times, about 1 minute; afterwards"),
        (200.0, "puts it to sleep 3 times, about 3 minutes; afterwards"),
    ],
)
def test_minutes_are_announced(driver: Driver, seconds: float | None, said: str) -> None:
    """What will be done and for about how long, in one line; no time where the server answers nothing."""
    assert said in announcement([small(driver)], "http://server", seconds=seconds)
