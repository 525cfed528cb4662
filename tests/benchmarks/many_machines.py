"""How much sooner a matrix is done on four nodes than on one: ``python -m tests.benchmarks.many_machines``.

The nodes are processes of this machine, the engine is the fake, and every cell is made to take the same
time, most of it idle: what is measured is what spreading costs, not how many cores the machine has.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
from ray.cluster_utils import Cluster

from harness import __version__
from harness.drive.executors import Work
from harness.drive.ray_executor import RayExecutor, connected
from harness.drive.ray_node import Setting
from harness.drive.run import run_cells
from harness.errors import ServerError
from harness.history.layout import cell_folder
from harness.history.recording import load_recording
from harness.history.run_description import ChosenRuntime
from harness.runs.plan import RunPlan
from harness.servers.base import Server, ServerSpec
from harness.servers.process.runtime import ProcessRuntime
from tests.benchmarks.overhead import one_cell

NODES = 4
OBJECT_STORE_BYTES = 100 * 1024 * 1024


class FixedTime(ProcessRuntime):
    """The fake as a process; each server is held until its cell has taken ``seconds``."""

    def __init__(self, *, seconds: float, cache: Path) -> None:
        super().__init__(engine_command=(sys.executable, "-m", "tests.fake_vllm"), engine="cpu", cache=cache)
        self._seconds = seconds

    @asynccontextmanager
    async def start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        """Start it, and hold it until its time is over."""
        began = time.monotonic()
        async with super().start(spec) as server:
            yield server
            left = began + self._seconds - time.monotonic()
            if left < 0:
                raise ServerError(f"the cell took {-left:.0f} s too long; ask for more with --seconds")
            await anyio.sleep(left)


def seconds_on(nodes: int, *, cells: int, seconds: float, folder: Path) -> float:
    """Run the matrix on that many nodes; return how long it took, starting the cluster not counted."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        },
    )
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        with connected(cluster.address):
            return _measured(_plan(folder, cells=cells), seconds=seconds, cache=folder / "cache")
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it without annotations


def _plan(folder: Path, *, cells: int) -> RunPlan:
    folder.mkdir()
    job, _ = one_cell(folder, prompts=2, cycles=1)
    return RunPlan(
        directory=folder,
        cells=tuple(replace(job.cell, arm_name=f"arm-{number}") for number in range(cells)),
        model=job.model,
        runtime=ChosenRuntime(name="process", why="a benchmark"),
        command=tuple(sys.argv),
    )


def _measured(plan: RunPlan, *, seconds: float, cache: Path) -> float:
    setting = Setting(
        version=__version__,
        model=plan.model,
        model_reference=plan.model.location,
        fault_file=None,
        runtime_of=partial(FixedTime, seconds=seconds, cache=cache),
    )
    executor = RayExecutor(setting=setting, engine="cpu", tell=print)
    executor.require_ready([plan.job(cell) for cell in plan.cells])
    began = time.monotonic()
    anyio.run(run_cells, executor, Work(jobs=plan.jobs, watcher_of=lambda _: lambda _: None))
    took = time.monotonic() - began
    for cell in plan.cells:
        if not load_recording(cell_folder(plan.directory, cell.id)).finished:
            sys.exit(f"{cell.id} did not come to its end: what was measured means nothing")
    return took


def main() -> None:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=8, help="a multiple of four")
    parser.add_argument("--seconds", type=float, default=30.0, help="what each cell takes")
    asked = parser.parse_args()
    os.environ.update(PYTHONPATH=str(Path(__file__).parents[2]), RAY_USAGE_STATS_ENABLED="0")
    with tempfile.TemporaryDirectory() as folder:
        took = {
            nodes: seconds_on(
                nodes, cells=asked.cells, seconds=asked.seconds, folder=Path(folder) / str(nodes)
            )
            for nodes in (1, NODES)
        }
    told = f"{asked.cells} cells of {asked.seconds:g} s: {took[1]:.0f} s on one node, {took[NODES]:.0f} s on"
    print(f"{told} {NODES}: {took[1] / took[NODES]:.2f} times as fast")  # noqa: T201 - the result


if __name__ == "__main__":
    main()
