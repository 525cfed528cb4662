"""One vLLM container: its start, its death, its memory, its log and its removal."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

import anyio.to_thread
import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import DeviceRequest, LogConfig, Mount

from harness.errors import InfrastructureError, RuntimeUnavailableError
from harness.redaction import secret_values
from harness.servers.base import Activity, BaseServer, MachineTimes, Memory, ServerFacts, ServerSpec
from harness.servers.docker.engine import speaking
from harness.servers.docker.log import LogFollower
from harness.servers.docker.plan import CONTAINER_PORT, ContainerPlan, GpuRequest
from harness.servers.gpu import gpu_memory
from harness.servers.logs import LINES_READ
from harness.servers.machine import machine_times
from harness.servers.processes import activity, resident_by_process
from harness.servers.readiness import boot_error

_STOP_GRACE_S = 1  # Ctrl-C must be through within 5 s, and a killed container leaves nothing
_RETRY_S = 0.5
_SIGNAL_EXIT = 128  # a shell's way, and Docker's, to say "killed by signal n": 128 + n


class ContainerServer(BaseServer):
    """A :class:`~harness.servers.base.Server` in a container."""

    def __init__(
        self, *, client: docker.DockerClient, plan: ContainerPlan, spec: ServerSpec, facts: ServerFacts
    ) -> None:
        super().__init__(facts)
        self._client = client
        self._plan = plan
        self._log = LogFollower(spec.log_path, secret_values(plan.env))

    def create(self) -> None:
        """Create and start the container, and learn its port.  Blocks.

        Raises:
            ServerBootError: It ended at once.
            InfrastructureError: The engine refuses, or does not answer.
        """
        with speaking("creating a container"):
            container = create_container(self._client, self._plan)
        with speaking("starting a container"):
            container.start()
            self._log.follow(container)
            container.reload()
        port = _published_port(container)
        if port is None:
            cause = self._death() or "its port was not published"
            raise boot_error(f"the server died while starting: {cause}", self.log_tail(LINES_READ))
        self.facts = replace(
            self.facts, base_url=f"http://127.0.0.1:{port}", identity=str(container.short_id)
        )

    async def death(self) -> str | None:
        """None while it runs; afterwards why the container is gone."""
        return await anyio.to_thread.run_sync(self._death)

    async def measure_memory(self) -> Memory:
        """Measure the container by its control group, its processes where we may see them, and its GPUs."""
        resident, per_process = await anyio.to_thread.run_sync(self._resident_memory)
        gpus = self._plan.gpus
        device = await gpu_memory(gpus.devices) if gpus else None
        return Memory(resident=resident, device=device, per_process=per_process)

    async def look_at_activity(self) -> Activity | None:
        """Look at the container's processes, where we may see them."""
        return await anyio.to_thread.run_sync(self._activity)

    async def look_at_machine(self) -> MachineTimes | None:
        """Look at this machine and at the container's processes, where we may see them."""
        return await anyio.to_thread.run_sync(self._machine_times)

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of what this server wrote, secrets replaced."""
        return self._log.tail(lines)

    def remove(self, *, patience_s: float) -> None:
        """Stop and remove the container with its anonymous volumes, its whole log saved.  Blocks.

        An engine that does not answer gets ``patience_s`` to come back.

        Raises:
            RuntimeUnavailableError: It did not; the next sweep removes the container.
        """
        deadline = time.monotonic() + patience_s
        try:
            while not self._is_removed(last_try=time.monotonic() >= deadline):
                time.sleep(_RETRY_S)
        finally:
            self._log.close()

    def _is_removed(self, *, last_try: bool) -> bool:
        try:
            with speaking(f"removing the container {self._plan.name}"):
                self._stop_and_remove()
        except RuntimeUnavailableError:
            if last_try:
                raise
            return False
        return True

    def _stop_and_remove(self) -> None:
        try:
            container = self._client.containers.get(self._plan.name)
            container.stop(timeout=_STOP_GRACE_S)
            self._log.complete(container)
            container.remove(v=True, force=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:  # somebody else is removing it already
                raise

    def _death(self) -> str | None:
        try:
            with speaking("watching a container"):
                try:
                    state = self._client.containers.get(self._plan.name).attrs["State"]
                except NotFound:
                    return "its container was removed by somebody else"
        except InfrastructureError as error:
            return error.cause
        if state["Status"] in {"created", "running", "restarting"}:
            return None
        self._log.wait_for_end()
        return describe_end(state)

    def _activity(self) -> Activity | None:
        return activity(self._pids())

    def _machine_times(self) -> MachineTimes | None:
        return machine_times(self._pids())

    def _pids(self) -> list[int]:
        """The container's processes; none where the engine does not tell."""
        try:
            with speaking("looking at a container"):
                processes = self._client.api.top(self._plan.name, ps_args="-o pid")["Processes"]
        except InfrastructureError:
            return []
        return [int(row[0]) for row in processes]

    def _resident_memory(self) -> tuple[int | None, dict[str, int]]:
        try:
            with speaking("measuring a container"):
                stats = self._client.api.stats(self._plan.name, stream=False, one_shot=True)
                processes = self._client.api.top(self._plan.name, ps_args="-o pid")["Processes"]
        except InfrastructureError:
            return None, {}
        return resident_in(stats["memory_stats"]), resident_by_process(int(row[0]) for row in processes)


def create_container(client: docker.DockerClient, plan: ContainerPlan) -> Container:
    """Create, but not start, what is planned: published on loopback only, on a port the kernel picks."""
    return client.containers.create(
        plan.image,
        list(plan.argv),
        name=plan.name,
        environment=dict(plan.env),
        labels=dict(plan.labels),
        mounts=[
            Mount(target=str(mount.target), source=str(mount.source), type="bind", read_only=mount.read_only)
            for mount in plan.mounts
        ],
        ports={f"{CONTAINER_PORT}/tcp": ("127.0.0.1", 0)},
        device_requests=[_device_request(plan.gpus)] if plan.gpus else None,
        shm_size=plan.shm_size,
        mem_limit=plan.memory_limit,
        log_config=LogConfig(type=LogConfig.types.JSON),  # one we can read back, whatever the engine's own is
        detach=True,
    )


def describe_end(state: Mapping[str, object]) -> str:
    """Say in words how a container ended, by the ``State`` of the engine's answer about it."""
    code = state.get("ExitCode")
    if state.get("OOMKilled"):
        return f"the kernel killed it because it ran out of memory (exit code {code})"
    if error := state.get("Error"):
        return f"Docker could not run it: {error}"
    if isinstance(code, int) and code > _SIGNAL_EXIT and code - _SIGNAL_EXIT in set(signal.Signals):
        return f"it was killed by {signal.Signals(code - _SIGNAL_EXIT).name} (exit code {code})"
    return f"it exited with code {code}"


def resident_in(memory_stats: Mapping[str, object]) -> int | None:
    """Return anonymous and shared memory of a container, without the page cache.

    The engine tells ``anon`` and ``shmem`` with control groups v2, ``total_rss`` and ``total_shmem`` with v1,
    and nothing of a container that has ended.
    """
    stats = memory_stats.get("stats")
    if not isinstance(stats, dict):
        return None
    for anonymous, shared in (("anon", "shmem"), ("total_rss", "total_shmem")):
        if anonymous in stats:
            return int(stats[anonymous]) + int(stats.get(shared, 0))
    return None


def _published_port(container: Container) -> str | None:
    bindings = container.attrs["NetworkSettings"]["Ports"].get(f"{CONTAINER_PORT}/tcp")
    return str(bindings[0]["HostPort"]) if bindings else None


def _device_request(gpus: GpuRequest) -> DeviceRequest:
    """Ask by CDI name, or by capability: an empty driver lets the engine resolve it."""
    if gpus.cdi:
        return DeviceRequest(driver="cdi", device_ids=gpus.cdi_names())
    if gpus.devices is None:
        return DeviceRequest(count=-1, capabilities=[["gpu"]])
    return DeviceRequest(device_ids=list(gpus.devices), capabilities=[["gpu"]])
