"""Cells on a Ray cluster of three nodes on this machine, with fake servers as their engines."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import psutil
import pytest
import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster

from harness import __version__
from harness.check import judge
from harness.check.result import Verdict
from harness.drive.executors import Work
from harness.drive.job import CellJob
from harness.drive.ray_executor import TRIES, RayExecutor, connected
from harness.drive.ray_node import Setting
from harness.drive.recorder import Watcher
from harness.drive.run import run_cells
from harness.errors import RuntimeUnavailableError
from harness.history.events import CellFailed, CellFinished, Event
from harness.history.layout import HISTORY_FILE, SERVER_LOG, cell_folder, earlier_histories
from harness.history.passes import Answer
from harness.history.recording import load_recording
from harness.history.run_description import ChosenRuntime
from harness.runs.plan import RunPlan
from harness.scenario.schema import Deadlines
from harness.servers.process.runtime import ProcessRuntime
from tests.conftest import FAKE_ENGINE
from tests.drive.conftest import Driver
from tests.drive.test_killed import engines_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    # Ray leaves sockets to the garbage collector and warns about its own future.
    pytest.mark.filterwarnings("default"),
]

# With a single pass after waking up speed is not judged: how busy the machine is decides no test.
SCRIPT = """\
- probe: baseline
- null_transition: {}
- sleep: {}
- wake_up: {}
- probe: {name: after-wake, evidence: [warm]}
"""
TALKATIVE = """echo the stand-in starts; exec "$0" "$@" """
CELLS = 12
NODES = 3
OBJECT_STORE_BYTES = 100 * 1024 * 1024
GONE_DEADLINE_S = 60.0


@dataclass
class Nodes:
    """A cluster whose head runs no cell and whose three other nodes run two cells each."""

    cluster: Cluster
    workers: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What ``--address`` is given."""
        return str(self.cluster.address)

    def lose_one(self) -> None:
        """Kill a node without warning."""
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)


@pytest.fixture
def nodes(fake_engine_command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """The nodes, gone at the end; their processes find the fake, whose path is set."""
    assert fake_engine_command
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    size = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **size})
    here = Nodes(cluster)
    try:
        here.workers += [
            cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE_BYTES) for _ in range(NODES)
        ]
        yield here
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it without annotations


def plan_of(process_driver: Driver, *, cells: int) -> RunPlan:
    """A matrix of cells; a slow machine is no finding."""
    job = process_driver.job(process_driver.cell(script=SCRIPT))
    patient = Deadlines(boot=300, answer=120, transition=120)
    scenario = job.cell.scenario.model_copy(update={"deadlines": patient})
    names = [f"arm-{number}" for number in range(cells)]
    directory = process_driver.folder / "run"
    directory.mkdir()
    return RunPlan(
        directory=directory,
        cells=tuple(replace(job.cell, scenario=scenario, arm_name=name) for name in names),
        model=job.model,
        runtime=ChosenRuntime(name="process", why="a test"),
        command=("sleepwake",),
    )


def executor_for(process_driver: Driver, plan: RunPlan, told: list[str]) -> RayExecutor:
    """Takes one core for a cell."""
    setting = Setting(
        version=__version__,
        model=plan.model,
        model_reference=plan.model.location,
        fault_file=None,
        runtime_of=partial(
            ProcessRuntime,
            engine_command=("sh", "-c", TALKATIVE, *FAKE_ENGINE),
            engine="cpu",
            cache=process_driver.folder / "cache",
            stop_grace_s=2.0,
        ),
    )
    return RayExecutor(setting=setting, engine="cpu", resources={"CPU": 1.0}, tell=told.append)


def until_none_is_left(process_driver: Driver) -> list[psutil.Process]:
    """The engines that are there still, after those that are ending had their time."""
    deadline = time.monotonic() + GONE_DEADLINE_S
    while (left := engines_of(process_driver.model.parent)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def watched(on_event: Callable[[str, Event], None]) -> Callable[[CellJob], Watcher]:
    """Show every event of every cell."""
    return lambda job: lambda event: on_event(job.cell.id, event)


def test_a_lost_node_costs_no_cell_its_verdict(process_driver: Driver, nodes: Nodes) -> None:
    """Twelve cells, one node killed midway: each ends once, judged from this machine's disk alone."""
    plan = plan_of(process_driver, cells=CELLS)
    ends: Counter[str] = Counter()
    answered: set[str] = set()
    told: list[str] = []
    killer: list[threading.Thread] = []

    def watch(cell: str, event: Event) -> None:
        if isinstance(event, Answer):
            answered.add(cell)
        if len(answered) == 2 * NODES and not killer:  # every node is in the middle of two cells
            killer.append(threading.Thread(target=nodes.lose_one))
            killer[0].start()
        if isinstance(event, CellFinished | CellFailed):
            ends[cell] += 1

    with connected(nodes.address):
        executor = executor_for(process_driver, plan, told)
        executor.require_ready([plan.job(cell) for cell in plan.cells])
        assert anyio.run(run_cells, executor, Work(jobs=plan.jobs, watcher_of=watched(watch)))
    killer[0].join()

    folders = [cell_folder(plan.directory, cell.id) for cell in plan.cells]
    assert ends == dict.fromkeys((cell.id for cell in plan.cells), 1)
    assert [judge(load_recording(folder)).verdict for folder in folders] == [Verdict.CLEAN] * CELLS
    assert {(folder / SERVER_LOG).read_text() for folder in folders} == {"the stand-in starts\n"}
    assert told
    assert any(map(earlier_histories, folders)), "what the lost node had recorded is kept beside"
    assert until_none_is_left(process_driver) == []


def test_an_interrupt_stops_every_node_in_order(process_driver: Driver, nodes: Nodes) -> None:
    """Cells that run end as interrupted ones do, those that wait are not begun, and no engine is left."""
    plan = plan_of(process_driver, cells=NODES * 2 + 2)
    interrupted: list[str] = []

    def watch(cell: str, event: Event) -> None:
        if isinstance(event, Answer) and not interrupted:
            interrupted.append(cell)
            os.kill(os.getpid(), signal.SIGINT)

    with connected(nodes.address):
        executor = executor_for(process_driver, plan, [])
        whole = anyio.run(run_cells, executor, Work(jobs=plan.jobs, watcher_of=watched(watch)))
    assert not whole
    assert engines_of(process_driver.model.parent) == []
    cut_short = load_recording(cell_folder(plan.directory, interrupted[0]))
    assert cut_short.failure is not None
    assert cut_short.failure.interrupted
    begun = [cell for cell in plan.cells if (cell_folder(plan.directory, cell.id) / HISTORY_FILE).exists()]
    assert len(begun) <= NODES * 2


def test_what_a_node_lacks_is_told_before_any_cell_begins(process_driver: Driver, nodes: Nodes) -> None:
    """Another version, a model that is not there, and more than any node has."""
    plan = plan_of(process_driver, cells=1)
    jobs = [plan.job(cell) for cell in plan.cells]
    executor = executor_for(process_driver, plan, [])
    lacking = {
        "the run was asked for with 0.0": replace(executor, setting=replace(executor.setting, version="0.0")),
        "nowhere": replace(
            executor,
            setting=replace(executor.setting, model_reference=str(process_driver.folder / "nowhere")),
        ),
        "no node has CPU=64": replace(executor, resources={"CPU": 64.0}),
    }
    with connected(nodes.address):
        for said, asking in lacking.items():
            with pytest.raises(RuntimeUnavailableError, match=said):
                asking.require_ready(jobs)
        executor.require_ready(jobs)


def test_where_there_is_no_cluster_that_is_said_at_once() -> None:
    """Ray itself would try for minutes."""
    with pytest.raises(RuntimeUnavailableError, match="no Ray cluster"), connected("127.0.0.1:9"):
        pass
    assert not ray.is_initialized()
    assert TRIES > 1
