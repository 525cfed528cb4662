"""The process runtime, with a toy engine in real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import httpx
import pytest

from harness.errors import RuntimeUnavailableError, ServerBootError, StorageError
from harness.servers.owner import Owner
from harness.servers.process import runtime as process
from harness.servers.process.leftovers import Records, ServerRecord
from harness.servers.process.runtime import ProcessRuntime
from harness.servers.processes import ProcessId, identify, is_running
from tests.servers.conftest import SpecFactory

REPOSITORY = Path(__file__).parents[3]
MIB = 1024 * 1024


async def ask(url: str) -> httpx.Response:
    """Ask a loopback server, whatever proxy the environment names."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url)


async def processes_of(base_url: str) -> dict[str, ProcessId]:
    """Return the toy engine's own processes by their role."""
    return known(json.loads((await ask(f"{base_url}/pids")).text))


def known(pids: Mapping[str, int]) -> dict[str, ProcessId]:
    """Turn the toy engine's answer into processes told apart for certain."""
    return {
        role: found
        for role in ("engine", "child")
        if role in pids and (found := identify(pids[role])) is not None
    }


async def gone(process: ProcessId) -> None:
    """Return once a process has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(60):
            await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def nothing_remembered(cache: Path) -> bool:
    """Whether no record of a server is left."""
    return list((cache / "servers").iterdir()) == []


@pytest.mark.anyio
class TestStart:
    """Entering and leaving a server."""

    async def test_ready_server_answers_on_loopback(
        self, runtime: ProcessRuntime, make_spec: SpecFactory
    ) -> None:
        """A server that was entered answers at its base URL."""
        async with runtime.start(make_spec()) as server:
            assert server.base_url.startswith("http://127.0.0.1:")
            assert (await ask(f"{server.base_url}/health")).status_code == 200
            assert await server.death() is None

    async def test_nothing_is_left_after_leaving(
        self, runtime: ProcessRuntime, make_spec: SpecFactory, cache: Path
    ) -> None:
        """Leaving ends the engine and its child, though that made its own session and ignores SIGTERM."""
        async with runtime.start(make_spec("--toy-stubborn-child", "--toy-ignore-sigterm")) as server:
            processes = await processes_of(server.base_url)
            assert set(processes) == {"engine", "child"}
        assert not any(is_running(each) for each in processes.values())
        assert nothing_remembered(cache)

    @pytest.mark.cell
    async def test_child_of_a_dead_engine_is_ended_too(
        self, runtime: ProcessRuntime, make_spec: SpecFactory
    ) -> None:
        """A child whose parent died, so that no tree leads to it, does not outlive the server."""
        async with runtime.start(make_spec("--toy-stubborn-child")) as server:
            processes = await processes_of(server.base_url)
            os.kill(processes["engine"].pid, signal.SIGKILL)
            await gone(processes["engine"])
            assert await server.death() == "it was killed by SIGKILL"
            assert is_running(processes["child"])
        assert not is_running(processes["child"])

    @pytest.mark.cell
    async def test_cancellation_leaves_nothing(
        self, runtime: ProcessRuntime, make_spec: SpecFactory, cache: Path
    ) -> None:
        """A cancelled script takes its server with it."""
        processes: dict[str, ProcessId] = {}

        with anyio.CancelScope() as scope:
            async with runtime.start(make_spec("--toy-stubborn-child")) as server:
                processes = await processes_of(server.base_url)
                scope.cancel()
                await anyio.sleep_forever()
        assert processes
        assert not any(is_running(each) for each in processes.values())
        assert nothing_remembered(cache)

    async def test_cancellation_during_boot_leaves_nothing(
        self, runtime: ProcessRuntime, make_spec: SpecFactory, cache: Path
    ) -> None:
        """A boot that is given up leaves no process behind."""
        with anyio.move_on_after(0.5) as scope:
            async with runtime.start(make_spec("--toy-unhealthy")):
                pytest.fail("an unhealthy server cannot be entered")
        assert scope.cancelled_caught
        assert nothing_remembered(cache)

    @pytest.mark.cell
    async def test_restart_appends_to_the_log(self, runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
        """A second server of the same cell keeps the first one's output, and its tail is its own."""
        async with runtime.start(make_spec("--toy-say", "first")):
            pass
        second = make_spec("--toy-say", "second")
        async with runtime.start(second) as server:
            assert server.log_tail() == "second"
        assert second.log_path.read_text().splitlines() == ["first", "second"]


@pytest.mark.anyio
class TestBootFailure:
    """A server that does not become ready."""

    async def test_early_death_is_reported_at_once(
        self, runtime: ProcessRuntime, make_spec: SpecFactory, cache: Path
    ) -> None:
        """An engine that exits is reported with its code and the end of its log, long before the deadline."""
        spec = make_spec("--toy-exit", "7", "--toy-say", "cannot allocate the KV cache", boot_deadline_s=600)
        with pytest.raises(ServerBootError, match="exited with code 7") as caught:
            async with runtime.start(spec):
                pytest.fail("a dead server cannot be entered")
        assert caught.value.log_tail == "cannot allocate the KV cache"
        assert nothing_remembered(cache)

    async def test_signal_is_named(self, runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
        """An engine that a signal killed says which."""
        with pytest.raises(ServerBootError, match="killed by SIGKILL"):
            async with runtime.start(make_spec("--toy-kill-itself")):
                pytest.fail("a dead server cannot be entered")

    async def test_deadline(self, runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
        """An engine that never becomes ready is given up after the deadline."""
        with pytest.raises(ServerBootError, match=r"not ready after 0\.5 s"):
            async with runtime.start(make_spec("--toy-unhealthy", boot_deadline_s=0.5)):
                pytest.fail("an unhealthy server cannot be entered")

    async def test_taken_port(
        self,
        runtime: ProcessRuntime,
        make_spec: SpecFactory,
        stranger_port: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """An engine whose port was taken meanwhile dies, and the error says that it was the port."""
        monkeypatch.setattr(process, "_free_port", lambda: stranger_port)
        with pytest.raises(ServerBootError, match=r"port was taken|took the port"):
            async with runtime.start(make_spec()):
                pytest.fail("somebody else's server must not be entered")

    async def test_stranger_on_the_port(
        self,
        runtime: ProcessRuntime,
        make_spec: SpecFactory,
        stranger_port: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A healthy answer from somebody else's server is never taken for the engine's."""
        monkeypatch.setattr(process, "_free_port", lambda: stranger_port)
        with pytest.raises(ServerBootError, match="another program answers on port"):
            async with runtime.start(make_spec("--toy-never-bind")):
                pytest.fail("somebody else's server must not be entered")

    async def test_unusable_log(self, runtime: ProcessRuntime, make_spec: SpecFactory, cache: Path) -> None:
        """A log that cannot be written is said before anything is started."""
        spec = make_spec()
        spec.log_path.parent.write_text("a file where the folder should be")
        with pytest.raises(StorageError, match="cannot be written"):
            async with runtime.start(spec):
                pytest.fail("a server without a log must not be entered")
        assert nothing_remembered(cache)

    async def test_missing_engine_command(self, cache: Path, make_spec: SpecFactory) -> None:
        """An engine command that does not exist says so in the log and the error."""
        runtime = ProcessRuntime(engine_command=("/nonexistent/python",), engine="cpu", cache=cache)
        with pytest.raises(RuntimeUnavailableError, match="does not exist"):
            runtime.check_available()
        with pytest.raises(ServerBootError) as caught:
            async with runtime.start(make_spec()):
                pytest.fail("there is nothing to enter")
        assert "/nonexistent/python cannot be run" in caught.value.log_tail


@pytest.mark.anyio
class TestFacts:
    """What is said about a server."""

    async def test_secrets_appear_nowhere(
        self, runtime: ProcessRuntime, make_spec: SpecFactory, cache: Path
    ) -> None:
        """A token reaches the engine, but no command, record or log, even if the engine prints it."""
        token = "hf_0123456789abcdef"  # noqa: S105
        spec = make_spec("--toy-say", "fine", env={"HF_TOKEN": token})
        async with runtime.start(spec) as server:
            environment = await anyio.Path(f"/proc/{server.facts.identity}/environ").read_text()
            assert f"HF_TOKEN={token}" in environment.split("\0")
            assert token not in f"{server.facts} {runtime.command(spec)}"
            assert all(token not in each.read_text() for each in (cache / "servers").iterdir())
            with spec.log_path.open("a") as log:
                log.write(f"Loaded with {token}\n")
            assert server.log_tail() == "fine\nLoaded with ***"
        assert spec.log_path.read_text() == "fine\nLoaded with ***\n"

    @pytest.mark.cell
    async def test_memory_counts_what_the_engine_holds(
        self, runtime: ProcessRuntime, make_spec: SpecFactory
    ) -> None:
        """Resident memory grows by what the engine allocates, and covers its children."""
        async with runtime.start(make_spec("--toy-stubborn-child")) as small:
            before = await small.measure_memory()
        async with runtime.start(make_spec("--toy-stubborn-child", "--toy-touch-mib", "64")) as large:
            after = await large.measure_memory()
        assert before.resident is not None
        assert after.resident is not None
        assert len(after.per_process) == 2
        assert sum(after.per_process.values()) == after.resident
        assert 60 * MIB < after.resident - before.resident < 68 * MIB
        assert after.device is None

    async def test_memory_of_a_dead_server_is_unknown(
        self, runtime: ProcessRuntime, make_spec: SpecFactory
    ) -> None:
        """A server that is gone has no memory to measure and says why it is gone."""
        async with runtime.start(make_spec()) as server:
            engine = (await processes_of(server.base_url))["engine"]
            await ask(f"{server.base_url}/exit")
            await gone(engine)
            assert await server.death() == "it exited with code 3"
            assert (await server.measure_memory()).resident is None

    @pytest.mark.cell
    async def test_emulation_is_said(self, runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
        """A CPU server says that its sleep mode is emulated, unless the arm turned that off."""
        async with runtime.start(make_spec()) as server:
            assert server.facts.emulated == ("CPU sleep mode",)
        async with runtime.start(make_spec(env={"SLEEPWAKE_CPU_SLEEP": "0"})) as server:
            assert server.facts.emulated == ()


@pytest.mark.cell
class TestDeadHarness:
    """What happens to servers when the harness goes away."""

    def start_harness(
        self, cache: Path, log: Path, *flags: str
    ) -> tuple[subprocess.Popen[str], dict[str, ProcessId]]:
        """Start a harness of its own and wait until its engine is ready."""
        harness = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.doomed_harness", "process", str(cache), str(log), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=REPOSITORY,
        )
        assert harness.stdout is not None
        with harness.stdout:
            _, pids = harness.stdout.readline(), harness.stdout.readline()
            return harness, known(json.loads(pids))

    def test_interrupt_leaves_nothing(self, tmp_path: Path, cache: Path) -> None:
        """Ctrl-C ends the harness and everything it started."""
        harness, processes = self.start_harness(cache, tmp_path / "log", "--toy-stubborn-child")
        harness.send_signal(signal.SIGINT)
        assert harness.wait(timeout=10) != 0
        assert len(processes) == 2
        assert not any(is_running(each) for each in processes.values())
        assert nothing_remembered(cache)

    def test_sweep_ends_what_a_killed_harness_left(
        self, tmp_path: Path, cache: Path, runtime: ProcessRuntime
    ) -> None:
        """After kill -9 of the harness the next sweep ends the orphans, and says so once."""
        harness, processes = self.start_harness(
            cache, tmp_path / "log", "--toy-stubborn-child", "--toy-ignore-sigterm"
        )
        harness.kill()
        harness.wait()
        assert all(is_running(each) for each in processes.values())
        assert runtime.sweep() == [
            "ended 2 processes of cell scenario/arm, run run-1, whose sleepwake is no longer running"
        ]
        assert not any(is_running(each) for each in processes.values())
        assert nothing_remembered(cache)
        assert runtime.sweep() == []

    def test_kernel_ends_an_obedient_engine(
        self, tmp_path: Path, cache: Path, runtime: ProcessRuntime
    ) -> None:
        """After kill -9 of the harness an engine that heeds SIGTERM is gone before any sweep."""
        harness, processes = self.start_harness(cache, tmp_path / "log")
        harness.kill()
        harness.wait()
        anyio.run(gone, processes["engine"])
        assert runtime.sweep() == []
        assert nothing_remembered(cache)

    def test_sweep_spares_servers_of_a_living_harness(
        self, tmp_path: Path, cache: Path, runtime: ProcessRuntime
    ) -> None:
        """A sweep never touches what another, living harness is running."""
        harness, processes = self.start_harness(cache, tmp_path / "log")
        try:
            assert runtime.sweep() == []
            assert is_running(processes["engine"])
        finally:
            harness.send_signal(signal.SIGINT)
            harness.wait()

    def test_sweep_never_ends_a_stranger(self, cache: Path, runtime: ProcessRuntime) -> None:
        """A process that merely has the id of a recorded one, started at another time, lives on."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
            identity = identify(stranger.pid)
            assert identity is not None
            dead = Owner.this_process().process._replace(started=0)
            record = ServerRecord.fresh(run_id="run-1", cell="scenario/arm").model_copy(
                update={
                    "owner": Owner.this_process().model_copy(update={"process": dead}),
                    "processes": (identity._replace(started=identity.started - 1),),
                }
            )
            Records(cache / "servers").write(record)
            assert runtime.sweep() == []
            assert nothing_remembered(cache)
            assert is_running(identity)
            stranger.communicate(b"\n", timeout=10)
