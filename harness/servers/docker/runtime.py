"""The Docker runtime: vLLM in a container that nothing of is left afterwards."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import anyio.from_thread
import anyio.to_thread
import docker
from docker.errors import NotFound
from docker.models.images import Image
from pydantic import ValidationError

from harness.errors import ImageError, RuntimeUnavailableError
from harness.servers.base import (
    EMULATED_CPU_SLEEP,
    Engine,
    KeptServer,
    RuntimeName,
    Server,
    ServerFacts,
    ServerSpec,
)
from harness.servers.docker.container import ContainerServer
from harness.servers.docker.engine import (
    GET_GPUS,
    NO_GPUS,
    ImageSource,
    connected,
    digest,
    engine_info,
    entrypoint,
    local_image,
    speaking,
)
from harness.servers.docker.plan import (
    CELL_LABEL,
    DEADLINE_LABEL,
    KEEP_LABEL,
    OWNER_LABEL,
    RUN_LABEL,
    ContainerPlan,
    GpuRequest,
    plan_container,
)
from harness.servers.flags import uses_cpu_sleep
from harness.servers.owner import Owner
from harness.servers.readiness import wait_until_ready

_IMAGE_DEADLINE_S = 3600.0
_LIFETIME = timedelta(hours=12)

# How long the last removal waits for an engine that does not answer: a restart, which stops
# every container first, takes up to half a minute; a person who presses Ctrl-C waits for none.
_PATIENCE_S = 30.0
_PATIENCE_INTERRUPTED_S = 2.0

logger = logging.getLogger(__name__)


class DockerRuntime:
    """Runs vLLM from an image on the Docker Engine of this machine.

    A container gets all GPUs, or those whose indices or UUIDs are given, and as much memory as Docker's own
    word for it says (``"8g"``).  After its lifetime it is removed even by a machine from which its harness
    cannot be seen.  With ``keep`` those that became ready are left running, for debugging.
    """

    name: RuntimeName = "docker"
    can_restart = True

    def __init__(
        self,
        *,
        image: ImageSource,
        engine: Engine,
        gpus: Sequence[str] | None = None,
        memory_limit: str | None = None,
        lifetime: timedelta = _LIFETIME,
        keep: bool = False,
    ) -> None:
        self._image = image
        self.engine = engine
        self._gpus = None if gpus is None else tuple(gpus)
        self._memory_limit = memory_limit
        self._lifetime = lifetime
        self._keep = keep
        self.kept: list[KeptServer] = []

    def check_available(self) -> None:
        """Return when the engine answers and, for a GPU image, provides GPUs."""
        with connected() as client:
            if self.engine == "gpu" and not engine_info(client).hands_out_gpus:
                raise RuntimeUnavailableError(NO_GPUS, remedy=GET_GPUS)

    def command(self, spec: ServerSpec) -> str:
        """Return a ``docker run`` that starts the same server, secrets by name only; starts nothing."""
        with connected() as client:
            return self._plan(spec, client, local_image(client, self._image.reference)).run_command()

    def sweep(self) -> list[str]:
        """Remove containers past their deadline or without a running sleepwake; a sentence for each."""
        with connected() as client:
            return sweep_containers(client)

    @asynccontextmanager
    async def start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        """Start a container: ready once entered, stopped and removed once left."""
        with connected() as client:
            image = await self._provide_image(client)
            plan = await anyio.to_thread.run_sync(self._plan, spec, client, image)
            server = ContainerServer(client=client, plan=plan, spec=spec, facts=self._facts(plan, image))
            patience_s, was_ready = _PATIENCE_S, False
            try:
                await anyio.to_thread.run_sync(server.create)
                await wait_until_ready(
                    base_url=server.base_url,
                    deadline_s=spec.boot_deadline_s,
                    log_tail=server.log_tail,
                    death=server.death,
                )
                was_ready = True
                yield server
            except anyio.get_cancelled_exc_class():
                patience_s = _PATIENCE_INTERRUPTED_S
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    if self._keep and was_ready and await server.death() is None:
                        stop = f"docker rm --force {plan.name}"
                        self.kept.append(KeptServer(cell=spec.cell, base_url=server.base_url, stop=stop))
                    else:
                        await anyio.to_thread.run_sync(lambda: server.remove(patience_s=patience_s))

    async def _provide_image(self, client: docker.DockerClient) -> Image:
        try:
            with anyio.fail_after(_IMAGE_DEADLINE_S):
                return await anyio.to_thread.run_sync(
                    lambda: self._image.provide(client, on_progress=_report_progress)
                )
        except TimeoutError as error:
            raise ImageError(
                f"the image {self._image.reference} was not there after {_IMAGE_DEADLINE_S:g} s",
                remedy="pull or build it by hand, then run again",
            ) from error

    def _plan(self, spec: ServerSpec, client: docker.DockerClient, image: Image | None) -> ContainerPlan:
        by_cdi = self.engine == "gpu" and engine_info(client).by_cdi
        return plan_container(
            spec,
            image=self._image.reference,
            entrypoint=entrypoint(image),
            engine=self.engine,
            gpus=GpuRequest(devices=self._gpus, cdi=by_cdi) if self.engine == "gpu" else None,
            memory_limit=self._memory_limit,
            deadline=datetime.now(UTC) + self._lifetime,
            keep=self._keep,
        )

    def _facts(self, plan: ContainerPlan, image: Image) -> ServerFacts:
        return ServerFacts(
            runtime=self.name,
            engine=self.engine,
            base_url="",  # the engine picks the port when the container starts
            command=plan.run_command(),
            image=self._image.reference,
            image_digest=digest(image),
            emulated=(EMULATED_CPU_SLEEP,) if uses_cpu_sleep(plan.env) else (),
        )


def _report_progress(message: str) -> None:
    """Pass a message on, from a worker thread; end its work when the run was cancelled meanwhile."""
    anyio.from_thread.check_cancelled()
    logger.info(message)


def sweep_containers(client: docker.DockerClient, *, kept_too: bool = False) -> list[str]:
    """Remove the containers, with their anonymous volumes, that nobody alive is waiting for.

    Those that were left running on request are spared until their time is over, unless ``kept_too``.
    """
    sentences = []
    with speaking("looking for leftover containers"):
        for container in client.containers.list(all=True, sparse=True, filters={"label": OWNER_LABEL}):
            labels = container.attrs["Labels"]
            reason = why_abandoned(labels, now=datetime.now(UTC), kept_too=kept_too)
            if reason is None:
                continue
            try:
                container.remove(v=True, force=True)
            except NotFound:
                continue  # another sweep was faster
            sentences.append(
                f"removed the container {container.short_id} of cell {labels.get(CELL_LABEL)}, "
                f"run {labels.get(RUN_LABEL)}, {reason}"
            )
    return sentences


def why_abandoned(labels: dict[str, str], *, now: datetime, kept_too: bool = False) -> str | None:
    """Return why nobody waits for a container any more; None while somebody may.

    Its harness is dead for certain, or cannot be seen from here and the container's time is over.
    """
    if KEEP_LABEL in labels and not kept_too and now <= _deadline(labels):
        return None
    try:
        dead = Owner.model_validate_json(labels[OWNER_LABEL]).is_dead()
    except ValidationError:
        dead = None
    if dead is None and now > _deadline(labels):
        return "which was past its deadline"
    return "whose sleepwake is no longer running" if dead else None


def _deadline(labels: dict[str, str]) -> datetime:
    try:
        return datetime.fromisoformat(labels[DEADLINE_LABEL])
    except (KeyError, ValueError):
        return datetime.max.replace(tzinfo=UTC)
