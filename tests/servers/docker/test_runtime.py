"""The Docker runtime on a real Docker Engine, with the toy engine in a small image."""

import gc
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import docker
import httpx
import pytest
from docker.models.containers import Container

from harness.errors import ImageError, RuntimeUnavailableError, ServerBootError
from harness.servers.docker.container import create_container
from harness.servers.docker.engine import PulledImage, connected
from harness.servers.docker.plan import CELL_LABEL, DEADLINE_LABEL, OWNER_LABEL, RUN_LABEL, plan_container
from harness.servers.docker.runtime import DockerRuntime, sweep_containers
from harness.servers.owner import Owner
from tests.servers.conftest import SpecFactory
from tests.servers.docker.engine_proxy import EngineProxy
from tests.servers.docker.toy_image import provide_toy_image

pytestmark = [pytest.mark.docker, pytest.mark.anyio]

REPOSITORY = Path(__file__).parents[3]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    """Return a connection to the real engine; a machine without one fails, it does not skip."""
    with connected() as client:
        yield client


@pytest.fixture(scope="module")
def image(client: docker.DockerClient) -> str:
    """Return the toy engine's image."""
    return provide_toy_image(client)


@pytest.fixture
def runtime(image: str) -> DockerRuntime:
    """Return a Docker runtime whose engine is the toy engine."""
    return DockerRuntime(image=PulledImage(image), engine="cpu")


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProxy]:
    """Return a way to take the engine away from the harness, and to give it back."""
    between = EngineProxy(path=tmp_path / "engine.sock", engine="/var/run/docker.sock")
    between.restore()
    monkeypatch.setenv("DOCKER_HOST", between.url)
    yield between
    between.cut()


async def ask(url: str) -> httpx.Response:
    """Ask a loopback server, whatever proxy the environment names."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(url)


def ours(client: docker.DockerClient) -> list[Container]:
    """Return all containers of the run that the tests pretend to be."""
    return client.containers.list(all=True, filters={"label": f"{RUN_LABEL}=run-1"})


def volumes_of(container: Container) -> list[str]:
    """Return the names of a container's anonymous volumes."""
    return [mount["Name"] for mount in container.attrs["Mounts"] if mount["Type"] == "volume"]


class TestStart:
    """Entering and leaving a container."""

    async def test_server_answers_on_loopback_only(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """A container that was entered answers, and its port is published to 127.0.0.1 alone."""
        async with runtime.start(make_spec()) as server:
            assert (await ask(f"{server.base_url}/health")).status_code == 200
            assert await server.death() is None
            (container,) = ours(client)
            assert {
                binding["HostIp"] for binding in container.attrs["NetworkSettings"]["Ports"]["8000/tcp"]
            } == {"127.0.0.1"}

    async def test_nothing_is_left(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """Leaving removes the container and the anonymous volume it had."""
        async with runtime.start(make_spec("--toy-ignore-sigterm")):
            (container,) = ours(client)
            (volume,) = volumes_of(container)
        assert ours(client) == []
        assert volume not in {each.name for each in client.volumes.list()}

    async def test_cancellation_leaves_nothing(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """A cancelled script takes its container with it, even one that ignores SIGTERM, within 5 s."""
        with anyio.CancelScope() as scope:
            async with runtime.start(make_spec("--toy-ignore-sigterm")):
                cancelled = time.monotonic()
                scope.cancel()
                await anyio.sleep_forever()
        assert time.monotonic() - cancelled < 5
        assert ours(client) == []

    async def test_cancellation_during_boot_leaves_nothing(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """A boot that is given up, at whatever moment, leaves no container behind."""
        for moment in (0.05, 0.3, 1.0):
            with anyio.move_on_after(moment):
                async with runtime.start(make_spec("--toy-unhealthy")):
                    pytest.fail("an unhealthy server cannot be entered")
            assert ours(client) == []

    async def test_labels_name_run_cell_owner_and_deadline(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """Everything a sweep needs to know stands on the container."""
        async with runtime.start(make_spec()):
            (container,) = ours(client)
            assert container.labels[CELL_LABEL] == "scenario/arm"
            assert Owner.model_validate_json(container.labels[OWNER_LABEL]) == Owner.this_process()
            assert datetime.fromisoformat(container.labels[DEADLINE_LABEL]) > datetime.now(UTC)

    async def test_log_is_whole(self, runtime: DockerRuntime, make_spec: SpecFactory) -> None:
        """What the server wrote is in the log file, and a restart appends to it."""
        for word in ("first", "second"):
            spec = make_spec("--toy-say", word)
            async with runtime.start(spec) as server:
                pass
            assert server.log_tail() == word
        assert spec.log_path.read_text().splitlines() == ["first", "second"]


class TestBootFailure:
    """A container that does not become ready."""

    async def test_early_death_is_reported_at_once(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """A container that exits is reported at once, with its code and the end of its log."""
        spec = make_spec("--toy-exit", "7", "--toy-say", "cannot allocate the KV cache", boot_deadline_s=600)
        with pytest.raises(ServerBootError, match="exited with code 7") as caught:
            async with runtime.start(spec):
                pytest.fail("a dead server cannot be entered")
        assert caught.value.log_tail == "cannot allocate the KV cache"
        assert spec.log_path.read_text() == "cannot allocate the KV cache\n"
        assert ours(client) == []

    async def test_deadline(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """A container that never becomes ready is given up after the deadline."""
        with pytest.raises(ServerBootError, match=r"not ready after 0\.5 s"):
            async with runtime.start(make_spec("--toy-unhealthy", boot_deadline_s=0.5)):
                pytest.fail("an unhealthy server cannot be entered")
        assert ours(client) == []

    async def test_out_of_memory_is_said(self, image: str, make_spec: SpecFactory) -> None:
        """A container that the kernel killed for its memory says so, not just a number."""
        runtime = DockerRuntime(image=PulledImage(image), engine="cpu", memory_limit="64m")
        with pytest.raises(ServerBootError, match="ran out of memory"):
            async with runtime.start(make_spec("--toy-touch-mib", "512")):
                pytest.fail("a dead server cannot be entered")

    async def test_missing_image(self, make_spec: SpecFactory) -> None:
        """An image that cannot be pulled is named, with the registry's reason."""
        runtime = DockerRuntime(image=PulledImage("127.0.0.1:1/none:1"), engine="cpu")
        with pytest.raises(ImageError, match=r"127\.0\.0\.1:1/none:1 cannot be pulled"):
            async with runtime.start(make_spec()):
                pytest.fail("there is nothing to enter")

    async def test_missing_gpu(self, image: str, make_spec: SpecFactory, client: docker.DockerClient) -> None:
        """An engine that cannot provide GPUs says that, at the check and at the start."""
        if "nvidia" in client.info()["Runtimes"]:
            pytest.skip("this engine provides GPUs")
        runtime = DockerRuntime(image=PulledImage(image), engine="gpu")
        with pytest.raises(RuntimeUnavailableError, match="cannot provide GPUs"):
            runtime.check_available()
        with pytest.raises(RuntimeUnavailableError, match="cannot provide GPUs"):
            async with runtime.start(make_spec()):
                pytest.fail("there is nothing to enter")
        assert ours(client) == []


class TestFacts:
    """What is said about a container."""

    async def test_image_is_named_by_its_content(
        self, runtime: DockerRuntime, image: str, make_spec: SpecFactory
    ) -> None:
        """The reference that was asked for, and the digest of what ran, are both known."""
        async with runtime.start(make_spec()) as server:
            assert server.facts.image == image
            assert re.fullmatch("sha256:[0-9a-f]{64}", server.facts.image_digest or "")

    async def test_secrets_appear_nowhere(
        self,
        runtime: DockerRuntime,
        make_spec: SpecFactory,
        client: docker.DockerClient,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A token reaches the container through its environment, and no command, label or log."""
        token = "hf_0123456789abcdef"  # noqa: S105
        monkeypatch.setenv("HF_TOKEN", token)
        spec = make_spec("--toy-say-variable", "HF_TOKEN")
        async with runtime.start(spec) as server:
            (container,) = ours(client)
            assert f"HF_TOKEN={token}" in container.attrs["Config"]["Env"]
            assert token not in f"{server.facts} {runtime.command(spec)} {container.labels}"
        assert spec.log_path.read_text() == "toy engine\n***\n"

    async def test_memory_counts_what_the_engine_holds(
        self, runtime: DockerRuntime, make_spec: SpecFactory
    ) -> None:
        """Resident memory grows by what the engine allocates."""
        async with runtime.start(make_spec()) as small:
            before = await small.measure_memory()
        async with runtime.start(make_spec("--toy-touch-mib", "64")) as large:
            after = await large.measure_memory()
        assert before.resident is not None
        assert after.resident is not None
        assert 60 * MIB < after.resident - before.resident < 70 * MIB
        assert after.device is None

    async def test_files_are_found_under_their_own_path(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient, tmp_path: Path
    ) -> None:
        """A model folder and the files its links lead to are there, read-only, under the same path."""
        blobs, model = tmp_path / "blobs", tmp_path / "snapshots" / "model"
        blobs.mkdir()
        model.mkdir(parents=True)
        (blobs / "1234").write_text("weights")
        (model / "weights").symlink_to("../../blobs/1234")
        async with runtime.start(make_spec(model=str(model))) as server:
            assert (await ask(f"{server.base_url}{model}/weights")).text == "weights"
            (container,) = ours(client)
            binds = [mount for mount in container.attrs["Mounts"] if mount["Type"] == "bind"]
            assert {mount["Destination"] for mount in binds} == {str(model), str(blobs)}
            assert not any(mount["RW"] for mount in binds)


# docker-py drops, but does not close, a socket that could not be connected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestEngineGone:
    """The Docker Engine goes away, or things happen behind our back."""

    @pytest.fixture(autouse=True)
    def _collect_forgotten_sockets(self) -> Iterator[None]:
        """Have them reported here, and not in a later test."""
        yield
        gc.collect()

    async def test_removed_by_somebody_else(
        self, runtime: DockerRuntime, make_spec: SpecFactory, client: docker.DockerClient
    ) -> None:
        """A container that somebody removed mid-run is reported as that, and leaving is quiet."""
        async with runtime.start(make_spec()) as server:
            ours(client)[0].remove(force=True, v=True)
            assert await server.death() == "its container was removed by somebody else"
            assert (await server.measure_memory()).resident is None

    async def test_engine_gone_and_back(
        self, image: str, make_spec: SpecFactory, client: docker.DockerClient, proxy: EngineProxy
    ) -> None:
        """An engine that goes away mid-run is named as the cause; once it is back, nothing is left."""
        spec = make_spec("--toy-say", "before")
        async with DockerRuntime(image=PulledImage(image), engine="cpu").start(spec) as server:
            proxy.cut()
            assert "the Docker Engine does not answer" in (await server.death() or "")
            assert (await server.measure_memory()).resident is None
            proxy.restore()
        assert ours(client) == []
        assert spec.log_path.read_text() == "before\n"

    async def test_engine_stays_away(
        self, image: str, make_spec: SpecFactory, client: docker.DockerClient, proxy: EngineProxy
    ) -> None:
        """An engine that stays away cannot remove the container: a person who presses Ctrl-C is told."""

        async def interrupted() -> None:
            with anyio.CancelScope() as scope:
                async with DockerRuntime(image=PulledImage(image), engine="cpu").start(make_spec()):
                    proxy.cut()
                    scope.cancel()
                    await anyio.sleep_forever()

        with pytest.raises(RuntimeUnavailableError, match="removing the container"):
            await interrupted()
        (container,) = ours(client)
        container.remove(force=True, v=True)


class TestDeadHarness:
    """What happens to containers when the harness goes away."""

    def start_harness(self, image: str, log: Path, *flags: str) -> tuple[subprocess.Popen[str], str]:
        """Start a harness of its own; return it and its container's id once that is ready."""
        harness = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.doomed_harness", "docker", image, str(log), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=REPOSITORY,
        )
        assert harness.stdout is not None
        with harness.stdout:
            identity, _ = harness.stdout.readline().strip(), harness.stdout.readline()
            return harness, identity

    def test_interrupt_leaves_nothing(self, image: str, tmp_path: Path, client: docker.DockerClient) -> None:
        """Ctrl-C removes the container, even one that ignores SIGTERM."""
        harness, _ = self.start_harness(image, tmp_path / "log", "--toy-ignore-sigterm")
        harness.send_signal(signal.SIGINT)
        assert harness.wait(timeout=10) != 0
        assert ours(client) == []

    def test_sweep_removes_what_a_killed_harness_left(
        self, image: str, tmp_path: Path, client: docker.DockerClient, runtime: DockerRuntime
    ) -> None:
        """A container outlives kill -9 of its harness until the next sweep, which says so once."""
        harness, identity = self.start_harness(image, tmp_path / "log")
        assert runtime.sweep() == []
        harness.kill()
        harness.wait()
        (container,) = ours(client)
        (volume,) = volumes_of(container)
        assert runtime.sweep() == [
            (
                f"removed the container {identity} of cell scenario/arm, run run-1, "
                "whose sleepwake is no longer running"
            )
        ]
        assert ours(client) == []
        assert volume not in {each.name for each in client.volumes.list()}
        assert runtime.sweep() == []

    def test_sweep_of_another_machine_waits_for_the_deadline(
        self, image: str, client: docker.DockerClient, make_spec: SpecFactory
    ) -> None:
        """A container whose harness cannot be seen from here is removed only once its time is over."""
        place = Owner.this_process().place.model_copy(update={"host": "elsewhere"})
        elsewhere = Owner.this_process().model_copy(update={"place": place}).model_dump_json()
        for hours, expected in ((1, 1), (-1, 0)):
            plan = plan_container(
                make_spec(),
                image=image,
                entrypoint=(),
                engine="cpu",
                gpus=None,
                memory_limit=None,
                deadline=datetime.now(UTC) + timedelta(hours=hours),
            )
            container = create_container(
                client, replace(plan, labels={**plan.labels, OWNER_LABEL: elsewhere})
            )
            sweep_containers(client)
            assert len(ours(client)) == expected
            if expected:
                container.remove(v=True)
