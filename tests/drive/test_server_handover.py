"""Which servers run, and for whom, whatever becomes of the cells: engines are tables, cells are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.drive import executors, sharing
from harness.drive.cell import EarlyLooks
from harness.drive.executors import LocalExecutor, Work
from harness.drive.job import CellJob
from harness.drive.recorder import Watcher
from harness.drive.sharing import Judges, SeenAgain
from harness.errors import ServerBootError, ServerNotFreshError, StorageError
from harness.models.model import model_on_hub
from harness.reaching import Access
from harness.scenario.cells import Cell
from harness.scenario.engine_state import EngineState
from harness.scenario.schema import Arm, Scenario
from harness.servers.base import Engine, KeptServer, RuntimeName, Server, ServerSpec, StartsServers
from harness.vllm_api.connection import Connection
from tests.drive.scripted_engine import ScriptedEngine
from tests.trying import tries
from tests.virtual_time import VirtualTimeLoop


@dataclass(frozen=True, kw_only=True)
class Told:
    """What becomes of one cell and of the server it ran on."""

    arm: str = "on"
    clean: bool = True
    left: str = "whole"
    """``asleep``, ``dead`` or ``stuck``: what the server is like afterwards."""
    fresh: bool = True
    """Whether it answers the next cell as when it was fresh, where it is asked."""


cells = st.lists(
    st.builds(
        Told,
        arm=st.sampled_from(["on", "off"]),
        clean=st.booleans(),
        left=st.sampled_from(["whole", "whole", "asleep", "dead", "stuck"]),
        fresh=st.booleans(),
    ),
    max_size=6,
)


class TableRuntime:
    """Starts tables; remembers which run and for whom each was started."""

    name: RuntimeName = "process"
    engine: Engine = "cpu"
    can_restart = True
    kept: Sequence[KeptServer] = ()

    def __init__(self, *, unbootable: str = "") -> None:
        self.booted: list[str] = []
        self.running: list[ScriptedEngine] = []
        self._unbootable = unbootable

    def check_available(self) -> None:
        """It always is."""

    def command(self, spec: ServerSpec) -> str:
        """What it would be."""
        return f"table {spec.cell}"

    def sweep(self) -> list[str]:
        """Nothing is ever left."""
        return []

    def start(self, spec: ServerSpec) -> AbstractAsyncContextManager[Server]:
        """Start one."""
        return self._start(spec)

    @asynccontextmanager
    async def _start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        if spec.cell == self._unbootable:
            raise ServerBootError("it does not boot", log_tail="", remedy="none")
        engine = ScriptedEngine()
        self.booted.append(spec.cell)
        self.running.append(engine)
        try:
            yield engine
        finally:
            self.running.remove(engine)


def job(number: int, told: Told, folder: Path) -> CellJob:
    """The cell of this number."""
    scenario = Scenario.model_validate(
        {
            "name": f"s{number}",
            "why": "w",
            "arms": {"a": {}},
            "prompts": {"corpus": "c"},
            "script": [{"probe": "b"}, {"sleep": {}}, {"wake_up": {}}, {"probe": "a"}],
        }
    )
    cell = Cell(
        scenario=scenario,
        scenario_path=folder / "s.yaml",
        arm_name=told.arm,
        arm=Arm(env={"ARM": told.arm}),
        prompts=(),
        held_out=(),
    )
    model = model_on_hub("org/model", dtype="auto")
    return CellJob(cell=cell, run_id="run", directory=folder / str(number), model=model)


@dataclass
class Run:
    """What came of a run of told cells."""

    told: dict[str, Told]
    runtime: TableRuntime
    served: dict[str, list[ScriptedEngine]] = field(default_factory=dict)
    """By cell, the engine of each attempt."""
    order: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self, _: str, *, access: Access) -> AsyncIterator[Connection]:
        """A connection to the one engine that runs."""
        del access  # it asks for no key
        (engine,) = self.runtime.running
        transport = httpx.MockTransport(engine.handle)
        async with httpx.AsyncClient(base_url="http://scripted.test", transport=transport) as client:
            yield Connection(base_url="", http=client, openai=None)  # type: ignore[arg-type]  # nothing is generated

    async def cell(
        self, job: CellJob, starter: StartsServers, *, watcher: Watcher, looks: EarlyLooks
    ) -> None:
        """Run a cell as it is told, as far as servers are concerned."""
        del watcher
        name, told = job.cell.id, self.told[job.cell.id]
        try:
            async with starter.start(job.spec) as server:
                assert len(self.runtime.running) == 1
                engine = self.runtime.running[0]
                self.order.append(name)
                self.served.setdefault(name, []).append(engine)
                if server.facts.shared_with:
                    looks.require_as_fresh(job.directory)
                if told.left == "asleep":
                    engine.state = EngineState().after_sleep(1)
                elif told.left == "dead":
                    engine.dead = "exit code 1"
                elif told.left == "stuck":
                    engine.refuse("/reset_prefix_cache")
        except ServerBootError:
            self.order.append(name)


async def run_all(
    told: Sequence[Told], folder: Path, *, sharing_allowed: bool = True, unbootable: int | None = None
) -> Run:
    """Run cells that are told through the executor."""
    jobs = [job(number, each, folder) for number, each in enumerate(told)]
    of = {each.cell.id: one for each, one in zip(jobs, told, strict=True)}
    by_folder = {each.directory: one for each, one in zip(jobs, told, strict=True)}
    run = Run(of, TableRuntime(unbootable="" if unbootable is None else jobs[unbootable].cell.id))

    def sees_again(_: Path, later: Path) -> SeenAgain:
        return SeenAgain(whole=by_folder[later].fresh, damaged=False, because="told so")

    judges = Judges(is_clean=lambda path: by_folder[path].clean, sees_again=sees_again)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "run_cell", run.cell)
        patch.setattr(sharing, "connect", run.connect)
        work = Work(
            jobs=tuple(jobs),
            watcher_of=lambda _: lambda _: None,
            looks=EarlyLooks(),
            sharing=judges if sharing_allowed else None,
        )
        await LocalExecutor(run.runtime).run_all(work)
    return run


def carried_out(told: Sequence[Told], folder: Path, **options: object) -> Run:
    """As :func:`run_all`, from outside an event loop."""

    async def all_of_it() -> Run:
        return await run_all(told, folder, **options)  # type: ignore[arg-type]  # passed on

    return anyio.run(all_of_it, backend_options={"loop_factory": VirtualTimeLoop})


@tries(40)
@given(cells)
def test_every_cell_is_served_and_no_server_is_left(told: list[Told]) -> None:
    """One server at a time, and none when all is over."""
    run = carried_out(told, Path("/nowhere"))
    assert set(run.served) == set(run.told)
    assert run.runtime.running == []


@tries(40)
@given(cells)
def test_a_server_goes_on_only_where_nothing_speaks_against_it(told: list[Told]) -> None:
    """Whoever shares asked for the same, after a clean cell, of an engine that lives, is awake and resets."""
    run = carried_out(told, Path("/nowhere"))
    for before, after in zip(run.order, run.order[1:], strict=False):
        if run.served[before][-1] is run.served[after][0]:
            left = run.told[before]
            assert (left.arm, left.clean, left.left) == (run.told[after].arm, True, "whole")


@tries(40)
@given(cells)
def test_a_cell_ends_on_a_server_that_is_as_fresh(told: list[Told]) -> None:
    """One that another cell left is as it was, or the cell starts again on a server of its own."""
    run = carried_out(told, Path("/nowhere"))
    for name, engines in run.served.items():
        assert len(engines) <= 2
        if len(engines) == 2:
            assert not run.told[name].fresh
            assert run.runtime.booted.count(name) == 1


def test_healthy_cells_boot_once_for_each_arm(tmp_path: Path) -> None:
    """However they are mixed."""
    told = [Told(arm=arm) for arm in ("on", "off", "on", "off", "on")]
    assert carried_out(told, tmp_path).runtime.booted == ["s0.on", "s1.off"]


def test_without_sharing_each_cell_boots_its_own(tmp_path: Path) -> None:
    """In the order in which they were asked for."""
    run = carried_out([Told(), Told(arm="off"), Told()], tmp_path, sharing_allowed=False)
    assert run.runtime.booted == run.order == ["s0.on", "s1.off", "s2.on"]


def test_a_cell_whose_server_does_not_boot_costs_the_others_nothing(tmp_path: Path) -> None:
    """The next one gets its own."""
    run = carried_out([Told(), Told(), Told()], tmp_path, unbootable=0)
    assert run.runtime.booted == ["s1.on"]
    assert run.order == ["s0.on", "s1.on", "s2.on"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [StorageError("the disk is full", remedy="free it"), KeyboardInterrupt()])
async def test_an_error_stops_the_server_on_its_way_out(tmp_path: Path, error: BaseException) -> None:
    """What ends the run leaves nothing running, and no further cell begins."""
    runtime, begun = TableRuntime(), list[str]()

    async def fail(job: CellJob, starter: StartsServers, **_: object) -> None:
        async with starter.start(job.spec):
            begun.append(job.cell.id)
            raise error

    jobs = tuple(job(number, Told(), tmp_path) for number in range(2))
    judges = Judges(
        is_clean=lambda _: True, sees_again=lambda *_: SeenAgain(whole=True, damaged=False, because="")
    )
    work = Work(jobs=jobs, watcher_of=lambda _: lambda _: None, looks=EarlyLooks(), sharing=judges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "run_cell", fail)
        with pytest.raises(type(error)):
            await LocalExecutor(runtime).run_all(work)
    assert (begun, runtime.running) == (["s0.on"], [])


@pytest.mark.anyio
async def test_a_cancelled_run_stops_the_server_that_was_held(tmp_path: Path) -> None:
    """Between two cells too: the one that is held belongs to nobody."""
    runtime = TableRuntime()

    async def hang_in_the_second(job: CellJob, starter: StartsServers, **_: object) -> None:
        async with starter.start(job.spec):
            if job.cell.id == "s1.on":
                await anyio.sleep_forever()

    work = Work(
        jobs=tuple(job(number, Told(), tmp_path) for number in range(2)),
        watcher_of=lambda _: lambda _: None,
        looks=EarlyLooks(),
        sharing=None,
    )
    with pytest.MonkeyPatch.context() as patch, anyio.move_on_after(60) as scope:
        patch.setattr(executors, "run_cell", hang_in_the_second)
        await LocalExecutor(runtime).run_all(work)
    assert scope.cancelled_caught
    assert (runtime.booted, runtime.running) == (["s0.on", "s1.on"], [])


@pytest.mark.anyio
async def test_one_retry_is_all_a_cell_gets(tmp_path: Path) -> None:
    """A server of its own cannot be unlike itself; should that be claimed again, it is told."""
    attempts: list[str] = []

    async def never_fresh(job: CellJob, _: StartsServers, **__: object) -> None:
        attempts.append(job.cell.id)
        raise ServerNotFreshError("not as it was", remedy="begin again")

    one = replace(job(0, Told(), tmp_path))
    judges = Judges(
        is_clean=lambda _: True, sees_again=lambda *_: SeenAgain(whole=True, damaged=False, because="")
    )
    work = Work(jobs=(one,), watcher_of=lambda _: lambda _: None, looks=EarlyLooks(), sharing=judges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "run_cell", never_fresh)
        with pytest.raises(ServerNotFreshError):
            await LocalExecutor(TableRuntime()).run_all(work)
    assert len(attempts) == 2
