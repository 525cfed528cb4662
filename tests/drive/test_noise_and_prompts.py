"""How many prompts a cell asks: its own, and as many more as telling damage from noise takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.check import judge
from harness.check.noise.limits import LEAST_NULL_ANSWERS
from harness.check.result import Verdict
from harness.drive.cell import EarlyLooks, run_cell
from harness.drive.job import CellJob
from harness.drive.script import judged_passes
from harness.history.recording import load_recording
from harness.history.run_description import ChosenRuntime
from harness.models.model import model_in_folder
from harness.runs.looks import knows_noise
from harness.runs.options import RunOptions
from harness.runs.plan import RunPlan
from harness.scenario.cells import Cell
from harness.scenario.script import flat_steps
from harness.scenario.steps.asking import NullTransition
from tests.drive.conftest import Driver, shipped_cells

pytestmark = pytest.mark.anyio

ALL = {cell.id: cell for cell in shipped_cells()}
DEFAULT = {name: cell for name, cell in ALL.items() if cell.scenario.default}
BFLOAT16 = ("--dtype", "bfloat16")


def job_of(driver: Driver, cell: Cell, *, vllm_args: tuple[str, ...], env: Mapping[str, str]) -> CellJob:
    """One cell, planned as ``sleepwake run`` plans it."""
    plan = RunPlan(
        directory=Path(driver.folder) / "out",
        cells=(cell,),
        model=model_in_folder(driver.model, dtype="float32"),
        runtime=ChosenRuntime(name="process", why="because"),
        options=RunOptions(vllm_args=vllm_args),
    )
    arm = cell.arm.model_copy(update={"env": dict(env)})
    return plan.job(replace(cell, arm=arm))


@pytest.mark.cell
@pytest.mark.parametrize("cell", DEFAULT.values(), ids=DEFAULT)
async def test_a_default_scenario_is_conclusive_in_bfloat16(driver: Driver, cell: Cell) -> None:
    """A healthy engine is clean, although no two of its answers are alike; eight tokens of eight show it."""
    sampling = cell.scenario.sampling.model_copy(update={"max_tokens": 8})
    scenario = cell.scenario.model_copy(update={"sampling": sampling})
    short = replace(cell, scenario=scenario, prompts=cell.prompts[:8])
    job = job_of(driver, short, vllm_args=BFLOAT16, env={"FAKE_VLLM": "slow:15"})
    await run_cell(job, driver.runtime, watcher=lambda _: None, looks=EarlyLooks(knows_noise=knows_noise))
    result = judge(load_recording(job.directory))
    assert (result.verdict, result.reason) == (Verdict.CLEAN, result.reason)
    assert result.noise is not None
    assert not result.noise.exact


SCRIPT = """\
- probe: baseline
- null_transition: {passes: 1}
- sleep: {level: 1}
- wake_up: {}
- probe: after-wake
"""


async def asked(driver: Driver, *dtype: str, prompts_in_noise: int) -> set[int]:
    """How many prompts the passes of a cell ask whose scenario names two."""
    cell = driver.cell(script=SCRIPT, more="evidence: [warm]")
    [*first, third, fourth] = cell.prompts
    cell = replace(cell, prompts=tuple(first), further=(third, fourth))
    job = replace(driver.job(cell), extra_args=dtype, prompts_in_noise=prompts_in_noise)
    await run_cell(job, driver.runtime, watcher=lambda _: None)
    return {len(each.start.asked) for each in load_recording(job.directory).passes}


@pytest.mark.parametrize(
    ("dtype", "prompts_in_noise", "expected"),
    [((), 3, 2), (BFLOAT16, 3, 3), (BFLOAT16, 1, 2), (BFLOAT16, 9, 4)],
)
@pytest.mark.cell
async def test_prompts_rise_where_the_engine_computes_coarsely(
    driver: Driver, dtype: tuple[str, ...], prompts_in_noise: int, expected: int
) -> None:
    """As far as the corpus goes, never below what the scenario says, and in every pass alike."""
    assert await asked(driver, *dtype, prompts_in_noise=prompts_in_noise) == {expected}


def test_judged_passes_are_those_after_the_baselines(driver: Driver) -> None:
    """Every cycle counts, and every condition; what begins a baseline of its own is not judged."""
    script = """\
- probe: baseline
- null_transition: {}
- load_adapter: {name: x, adapter: first}
- probe: {name: first, adapter: x, baseline: true}
- repeat: 3
  steps:
    - sleep: {level: 1}
    - wake_up: {}
    - probe: after-wake
- probe: {name: again, evidence: [warm]}
"""
    cell = driver.cell(script=script, more="evidence: [warm, cold]")
    assert judged_passes(cell.scenario) == 3 * 2 + 1


@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
def test_no_shipped_scenario_names_fewer_null_passes_than_noise_takes(cell: Cell) -> None:
    """One that does could never be clean where answers differ by themselves."""
    nulls = [step for step in flat_steps(cell.scenario.script) if isinstance(step, NullTransition)]
    assert all((each.null_transition.passes or LEAST_NULL_ANSWERS) >= LEAST_NULL_ANSWERS for each in nulls)
