"""What is going to be run, and how ``run.json`` describes it: pure functions of the plan."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from harness import __version__
from harness.check.noise.budget import ErrorBudget
from harness.check.noise.calibration import prompts_in_noise
from harness.drive.job import CellJob
from harness.drive.script import judged_passes
from harness.history.layout import cell_folder
from harness.history.run_description import (
    ChosenRuntime,
    DescribedCell,
    DescribedScenario,
    DescribedShard,
    Machine,
    RunDescription,
    UsedModel,
)
from harness.installation import as_asked_for
from harness.models.model import Model
from harness.redaction import HIDDEN, is_secret_name, without_secret_flags
from harness.runs.options import RunOptions
from harness.scenario.cells import Cell
from harness.scenario.sources import SCENARIO, key_sources
from harness.servers.flags import flag_name


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is going to be run, where, and why in this way.

    With ``resumes`` the directory holds a run already: ``cells`` are those of its cells that are run once
    more.
    """

    directory: Path
    cells: tuple[Cell, ...]
    model: Model
    runtime: ChosenRuntime
    options: RunOptions = field(default_factory=RunOptions)
    command: tuple[str, ...] = ()
    resumes: bool = False
    shard: DescribedShard | None = None
    begun_with: int = 0
    """Cells of the whole run that is taken up again."""
    asked_at: float = field(default_factory=time.monotonic)
    """When the run was asked for, on the monotonic clock: what comes before its first cell takes time too."""

    @property
    def budget(self) -> ErrorBudget:
        """What each cell may spend on false alarms: the run's, whichever of its cells run here and now."""
        here = len(self.shard.matrix) if self.shard else len(self.cells)
        return ErrorBudget(cells=max(1, here, self.begun_with))

    @property
    def jobs(self) -> tuple[CellJob, ...]:
        """Each cell with its part of the plan."""
        return tuple(map(self.job, self.cells))

    def job(self, cell: Cell) -> CellJob:
        """The part of the plan that is one cell's."""
        return CellJob(
            cell=cell,
            run_id=self.directory.name,
            directory=cell_folder(self.directory, cell.id),
            model=self.model,
            fault=self.options.fault,
            extra_args=self.options.vllm_args,
            prompts_in_noise=prompts_in_noise(judged_passes(cell.scenario), budget=self.budget),
        )


def describe(plan: RunPlan, *, started_at: str) -> RunDescription:
    """What ``run.json`` says when the run begins."""
    options = plan.options
    description = RunDescription(
        format=1,
        run=plan.directory.name,
        sleepwake=__version__,
        started_at=started_at,
        finished_at=None,
        interrupted=None,
        command=tuple(without_secret_flags(plan.command)),
        options=options.asked,
        sources=options.all_sources,
        runtime=plan.runtime,
        model=UsedModel(
            name=plan.model.served_name,
            source=plan.model.source,
            checksum=plan.model.checksum,
            bytes_on_disk=plan.model.bytes_on_disk,
        ),
        fault=options.fault,
        extra_args=options.asked.vllm_args,
        machine=machine(),
        cells={
            cell.id: describe_cell(cell).model_copy(update={"sources": _sources(options, cell)})
            for cell in plan.cells
        },
    )
    return description if plan.shard is None else description.model_copy(update={"shard": plan.shard})


def describe_cell(cell: Cell) -> DescribedCell:
    """All that decides what is sent to a cell's server, and no secret."""
    scenario = cell.scenario.model_dump(mode="json")
    for arm in scenario["arms"].values():
        arm["args"] = [*without_secret_flags(arm["args"])]
        arm["env"] = {name: HIDDEN if is_secret_name(name) else value for name, value in arm["env"].items()}
    texts = json.dumps([[prompt.id, prompt.text] for prompt in (*cell.prompts, *cell.held_out)])
    return DescribedCell(
        scenario=DescribedScenario.model_validate(scenario),
        scenario_file=as_asked_for(cell.scenario_path),
        arm=cell.arm_name,
        prompts_checksum=f"sha256:{hashlib.sha256(texts.encode()).hexdigest()}",
    )


def _sources(options: RunOptions, cell: Cell) -> Mapping[str, str | Mapping[str, str]]:
    """Where the cell's own values came from, and those of the vLLM flags that were asked for."""
    asked = dict.fromkeys(_flag_names(options.vllm_args), options.sources.get("vllm_args", "command line"))
    flags = {**asked, **dict.fromkeys(_flag_names(cell.arm.args), SCENARIO)}
    keys = key_sources(cell.scenario)
    if options.prompts is not None:
        source = options.sources.get("prompts", "command line")
        keys |= {name: source for name in keys if name.startswith("prompts.")}
    return {**keys, "flags": {f"--{name}": source for name, source in flags.items()}}


def _flag_names(words: Iterable[str]) -> list[str]:
    return [name for word in words if (name := flag_name(word)) is not None]


def machine() -> Machine:
    """The machine this runs on, without its name."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=psutil.cpu_count(logical=True),
        memory_bytes=psutil.virtual_memory().total,
        python=sys.version.split()[0],
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
