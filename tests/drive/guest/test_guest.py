"""A run on a server that is somebody else's: asked before, given back after, whatever happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from harness.drive.cell import run_cell
from harness.drive.guest.announcing import announcement, require_few_sleeps
from harness.drive.guest.asking import look, require_fit
from harness.drive.guest.giving_back import complaints, give_back_all, give_back_to
from harness.drive.guest.owed import Ledger, Owed
from harness.errors import RuntimeUnavailableError, UsageError
from harness.history.events import Event
from harness.history.observations import StepStarted
from harness.history.recording import Recording, load_recording
from harness.scenario.engine_state import EngineState
from harness.servers.attached import AttachedRuntime
from harness.servers.owner import Owner
from harness.vllm_api.connection import Connection, connect
from tests.drive.conftest import Driver
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.options import Options
from tests.fake_vllm.serving import serve

pytestmark = pytest.mark.anyio

LEVEL_TWO = "- probe: baseline\n- sleep: {level: 2}\n- wake_up: {}\n- probe: after\n"
ADAPTER = "- probe: baseline\n- load_adapter: {adapter: first, name: ours}\n- probe: after\n"
PAUSED = "- probe: baseline\n- pause: {}\n- sleep: {}\n- wake_up: {}\n- probe: after\n"


@asynccontextmanager
async def foreign(*behaviours: Behaviour) -> AsyncIterator[Connection]:
    """A server that somebody else runs."""
    options = Options(misbehaviour=Misbehaviour(dict.fromkeys(behaviours, 0)))
    async with serve(options) as base_url, connect(base_url) as connection:
        yield connection


async def answers(connection: Connection, path: str) -> dict[str, object]:
    """What a GET answers."""
    told: dict[str, object] = (await connection.http.get(path)).json()
    return told


async def is_as_it_was(connection: Connection) -> bool:
    """Whether it is awake, at work, serves one model, and answers."""
    state = {**await answers(connection, "/is_sleeping"), **await answers(connection, "/is_paused")}
    models = (await answers(connection, "/v1/models"))["data"]
    assert isinstance(models, list)
    asked = {"model": models[0]["id"], "prompt": "river", "max_tokens": 1}
    answered = await connection.http.post("/v1/completions", json=asked, timeout=30)
    return state == {"is_sleeping": False, "is_paused": False} and len(models) == 1 and answered.is_success


async def run_on(connection: Connection, driver: Driver, script: str, *, stop_at: str = "") -> Recording:
    """Run a script on a foreign server; cancel it once a step of the kind ``stop_at`` has begun."""
    job = driver.job(driver.cell(script=script))
    runtime = AttachedRuntime(endpoint=connection.base_url)
    with anyio.CancelScope() as scope:

        def stop(event: Event) -> None:
            if isinstance(event, StepStarted) and event.action == stop_at:
                scope.cancel()

        await run_cell(job, runtime, watcher=stop)
    return load_recording(job.directory)


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_model_folder: Path) -> Ledger:  # noqa: ARG001 - before
    """Where what is owed is written down."""
    monkeypatch.setenv("SLEEPWAKE_CACHE", str(tmp_path / "models-cache"))
    return Ledger()


@pytest.mark.cell
@pytest.mark.parametrize("script", [LEVEL_TWO, ADAPTER, PAUSED], ids=["level 2", "adapter", "pause"])
async def test_a_script_that_ends_leaves_nothing_behind(driver: Driver, ledger: Ledger, script: str) -> None:
    """Weights that were thrown away and adapters that were loaded are put right at the end of the cell."""
    async with foreign() as connection:
        checksums = (await connection.http.post("/weight_checker", json={"action": "checksum"})).json()
        await run_on(connection, driver, script)
        assert await is_as_it_was(connection)
        assert (
            await connection.http.post("/weight_checker", json={"action": "checksum"})
        ).json() == checksums
    assert ledger.entries() == []


@pytest.mark.cell
@pytest.mark.parametrize("stop_at", ["sleep", "wake_up", "pause"])
async def test_an_interrupted_run_leaves_the_server_awake(
    driver: Driver, ledger: Ledger, stop_at: str
) -> None:
    """Whoever stops a run while the server sleeps, or falls asleep, finds it awake and at work."""
    async with foreign() as connection:
        recording = await run_on(connection, driver, PAUSED, stop_at=stop_at)
        assert recording.failure is not None
        assert recording.failure.interrupted
        assert await is_as_it_was(connection)
    assert ledger.entries() == []


@pytest.mark.cell
async def test_what_cannot_be_given_back_is_said_with_what_mends_it(driver: Driver, ledger: Ledger) -> None:
    """A server that does not wake up stays in the ledger, and the sentence holds the command."""
    async with foreign(Behaviour.WAKE_UP_FAILS) as connection:
        await run_on(connection, driver, "- probe: baseline\n- sleep: {}\n- wake_up: {}\n- probe: after\n")
        (complaint,) = complaints(ledger, connection.base_url)
        assert f"curl -fsS -X POST {connection.base_url}/wake_up" in complaint


async def test_the_next_start_gives_back_what_a_killed_run_owes(ledger: Ledger, dead_owner: Owner) -> None:
    """After kill -9 the entry is still there; giving it back wakes the server and strikes it out."""
    async with foreign() as connection:
        await connection.http.post("/sleep", params={"level": "2"})
        owed = Owed(owner=dead_owner, endpoint=connection.base_url, run_id="r", cell="c")
        state = EngineState().after_sleep(2)
        ledger.write(owed.and_after(state, own_weights=None))
        (leftover,) = await give_back_all(ledger)
        assert leftover.sentence == f"gave {connection.base_url} back, which run r left when it was killed"
        assert leftover.is_settled
        assert await is_as_it_was(connection)
    assert ledger.entries() == []


async def test_a_server_at_which_another_run_is_at_work_is_left_alone(
    ledger: Ledger, other_owner: Owner
) -> None:
    """Two runs would put it to sleep under each other: the second is refused, and mends nothing."""
    ledger.write(Owed(owner=other_owner, endpoint="http://host", run_id="r", cell="c", asleep=True))
    with pytest.raises(RuntimeUnavailableError, match="run r is at work"):
        await give_back_to(ledger, "http://host")
    assert await give_back_all(ledger) == []
    assert list(complaints(ledger, "http://host")) == []
    assert len(ledger.entries()) == 1


ELSEWHERE = """
import sys
from harness.drive.guest.owed import Ledger, Owed
from harness.servers.owner import Owner, Place
place = Place(host="another-pod", boot="b", namespace="n")
owner = Owner.this_process().model_copy(update={"place": place})
Ledger().write(Owed(owner=owner, endpoint="http://127.0.0.1:1", run_id="r", cell="c", asleep=True))
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_run_in_another_container_is_told_from_one_that_lives(ledger: Ledger) -> None:
    """Its process cannot be seen from here, but it holds a lock beside the entry for as long as it lives."""
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"written\n"
        (owed,) = ledger.entries()
        assert owed.owner.is_dead() is None
        assert ledger.owner_lives(owed) is True
        run.kill()
        run.wait()
        assert ledger.owner_lives(owed) is False
    ledger.forget(owed)
    assert not list(ledger.path_of(owed).parent.iterdir())


async def test_a_run_elsewhere_of_which_nothing_is_known_is_told(ledger: Ledger, other_owner: Owner) -> None:
    """Where there is no lock either, nothing is given back, and it is said what whoever knows more can do."""
    place = other_owner.place.model_copy(update={"host": "another-pod"})
    owner = other_owner.model_copy(update={"place": place})
    owed = Owed(owner=owner, endpoint="http://host", run_id="r", cell="c", asleep=True)
    ledger.write(owed)
    ledger.path_of(owed).with_suffix(".lock").unlink()
    (leftover,) = await give_back_all(ledger)
    assert not leftover.is_settled
    assert "run r on another-pod may be at work" in leftover.sentence
    assert f"remove {ledger.path_of(owed)}, and curl -fsS -X POST http://host/wake_up" in leftover.sentence
    with pytest.raises(RuntimeUnavailableError, match="run r is at work") as refused:
        await give_back_to(ledger, "http://host")
    assert str(ledger.path_of(owed)) in refused.value.remedy


async def test_a_server_that_was_started_anew_is_owed_nothing(ledger: Ledger, dead_owner: Owner) -> None:
    """What was done to a process ended with it: weights that somebody loaded since must not be replaced."""
    async with foreign() as connection:
        await connection.http.post("/sleep")
        seen = await look(connection.http)
        assert seen.metrics.snapshot is not None
        assert seen.metrics.snapshot.started is not None
        ledger.write(
            Owed(
                owner=dead_owner,
                endpoint=connection.base_url,
                run_id="r",
                cell="c",
                started=seen.metrics.snapshot.started - 1,
                asleep=True,
                weights=True,
            )
        )
        (leftover,) = await give_back_to(ledger, connection.base_url)
        assert leftover.sentence.endswith("has been started anew since: it is owed nothing")
        assert await answers(connection, "/is_sleeping") == {"is_sleeping": True}
    assert ledger.entries() == []


@pytest.mark.parametrize(
    ("path", "words"), [("/sleep", "is asleep already"), ("/pause", "is (asleep|paused) already")]
)
async def test_a_server_that_rests_is_refused(path: str, words: str) -> None:
    """Nothing would be answered, so nothing is begun; the command that wakes it is named."""
    async with foreign() as connection:
        await connection.http.post(path)
        with pytest.raises(RuntimeUnavailableError, match=words) as refused:
            await require_fit(connection, allow_busy=True)
    assert "curl" in refused.value.remedy


async def test_a_server_that_others_use_is_refused_unless_allowed() -> None:
    """A request that runs is seen; --allow-busy lets the run begin all the same."""
    async with foreign_at_work() as connection:
        with pytest.raises(RuntimeUnavailableError, match="others use"):
            await require_fit(connection, allow_busy=False)
        await require_fit(connection, allow_busy=True)


@asynccontextmanager
async def foreign_at_work() -> AsyncIterator[Connection]:
    """A server with a long request of somebody else's."""
    options = Options(misbehaviour=Misbehaviour({Behaviour.SLOW: 20}))
    async with (
        serve(options) as base_url,
        connect(base_url) as connection,
        anyio.create_task_group() as group,
    ):
        asked = {"model": options.served_model_name, "prompt": "river", "max_tokens": 900, "ignore_eos": True}
        group.start_soon(lambda: connection.http.post("/v1/completions", json=asked))
        while not (await look(connection.http)).requests[0]:  # noqa: ASYNC110 - the server says when
            await anyio.sleep(0.01)
        yield connection
        group.cancel_scope.cancel()


async def test_a_server_without_development_endpoints_is_refused() -> None:
    """It is said how it has to be started, before anything is done."""
    async with serve(Options(dev_mode=False)) as base_url, connect(base_url) as connection:
        with pytest.raises(RuntimeUnavailableError, match="no development endpoints"):
            await require_fit(connection, allow_busy=False)


def test_what_will_be_done_is_counted_from_the_scripts(driver: Driver) -> None:
    """Repetitions count as often as they are carried out; --max-sleeps is held before anything starts."""
    cells = [driver.cell("on"), driver.cell("off")]
    line = announcement(cells, "http://host")
    assert line == "http://host: puts it to sleep 6 times; afterwards it is given back as it was found"
    require_few_sleeps(cells, 6)
    with pytest.raises(UsageError, match="6 times, and --max-sleeps allows 5"):
        require_few_sleeps(cells, 5)
