"""Which arms of a scenario a server that is not ours is tested as."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import JsonValue

from harness.drive.guest.serving import choose_served
from harness.scenario.cells import AS_SERVED, Cell
from harness.scenario.schema import Arm
from tests.drive.conftest import Driver


def cells(driver: Driver, *arms: Arm) -> list[Cell]:
    """Cells of one scenario with these arms."""
    cell = driver.cell()
    named = [{**vars(cell), "arm_name": f"arm{number}", "arm": arm} for number, arm in enumerate(arms)]
    return [Cell(**each) for each in named]


ON, OFF = Arm(args=("--enable-prefix-caching",)), Arm(args=("--no-enable-prefix-caching",))
SMALL, SPLIT = Arm(args=("--block-size=16",)), Arm(args=("--block-size", "16"))
BRANCH, PLAIN = Arm(args=("--tensor-parallel-size=2",)), Arm()
ENV = Arm(env={"VLLM_X": "1"})


@pytest.mark.parametrize(
    ("arms", "configuration", "chosen", "stands_for"),
    [
        ((ON, OFF), {"cache_config": {"enable_prefix_caching": True}}, ["arm0"], []),
        ((ON, OFF), {"cache_config": {"enable_prefix_caching": False}}, ["arm1"], []),
        ((OFF,), {"cache_config": {"enable_prefix_caching": True}}, [], []),
        ((SMALL, SPLIT), {"cache_config": {"block_size": 16}}, ["arm0", "arm1"], []),
        ((SMALL,), {"cache_config": {"block_size": 32}}, [], []),
        ((ON, OFF), {}, [AS_SERVED], ["small.arm0"]),
        ((BRANCH, ENV), {}, [AS_SERVED], ["small.arm0"]),
        ((OFF, BRANCH), {"cache_config": {"enable_prefix_caching": True}}, [AS_SERVED], ["small.arm1"]),
        ((BRANCH, PLAIN), {}, ["arm1"], []),
    ],
)
def test_only_what_the_server_runs_is_tested(
    driver: Driver,
    arms: tuple[Arm, ...],
    configuration: Mapping[str, JsonValue],
    chosen: list[str],
    stands_for: list[str],
) -> None:
    """Proven arms run; where none is proven the server is tested as served; the rest has a reason."""
    seen = choose_served(cells(driver, *arms), configuration)
    assert [cell.arm_name for cell in seen.cells] == chosen
    assert dict(seen.as_served) == dict.fromkeys(stands_for, f"small.{AS_SERVED}")
    assert seen.matrix == tuple(cell.id for cell in seen.cells)
    assert len(seen.left_out) == len(arms) - len(chosen)
    assert all("the server" in reason for reason in seen.left_out.values())


def test_what_is_tested_as_served_claims_no_flag(driver: Driver) -> None:
    """It asks what the scenario asks, under its own name, of an arm without flags and environment."""
    (cell,) = choose_served(cells(driver, BRANCH), {}).cells
    assert (cell.id, cell.arm) == ("small.as-served", Arm())
    assert cell.scenario == driver.cell().scenario
