"""What a container is to be like, decided before Docker is asked for anything."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.redaction import is_secret_name, shell_command
from harness.servers.base import Engine, ServerSpec
from harness.servers.flags import is_local, server_args, server_env
from harness.servers.owner import Owner

RUN_LABEL = "sleepwake.run"
CELL_LABEL = "sleepwake.cell"
DEADLINE_LABEL = "sleepwake.deadline"
OWNER_LABEL = "sleepwake.owner"
KEEP_LABEL = "sleepwake.keep"
"""On containers that are to be left running on request."""

CONTAINER_PORT = 8000
HF_HOME_INSIDE = "/root/.cache/huggingface"

# Docker's own 64 MB kill the worker.  The host's IPC namespace would do as well, but what a
# killed engine leaves there stays on the host; this goes with the container.
_SHM_SIZE: Mapping[Engine, str] = {"cpu": "4g", "gpu": "16g", "unknown": "16g"}

_PASSED_FOR_HUB_MODELS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_ENDPOINT",
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


@dataclass(frozen=True, kw_only=True)
class BindMount:
    """A file or folder of this machine inside a container."""

    source: Path
    target: Path
    read_only: bool


@dataclass(frozen=True, kw_only=True)
class GpuRequest:
    """Which GPUs a container gets.

    Attributes:
        devices: Indices or UUIDs; None for all.
        cdi: Ask by CDI names (``nvidia.com/gpu=0``) rather than by capability.
    """

    devices: tuple[str, ...] | None = None
    cdi: bool = False

    def cdi_names(self) -> list[str]:
        """Return the devices as CDI names them."""
        return [f"nvidia.com/gpu={device}" for device in self.devices or ("all",)]

    def run_flags(self) -> list[str]:
        """Return the flags of ``docker run`` that ask for the same."""
        if self.cdi:
            return [word for name in self.cdi_names() for word in ("--device", name)]
        return ["--gpus", "all" if self.devices is None else f'"device={",".join(self.devices)}"']


@dataclass(frozen=True, kw_only=True)
class ContainerPlan:
    """One container, whole.  ``argv`` follows the image's entry point."""

    name: str
    image: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    mounts: tuple[BindMount, ...]
    gpus: GpuRequest | None
    shm_size: str
    memory_limit: str | None

    def run_command(self) -> str:
        """Return a ``docker run`` that starts the same server, secrets passed by name only."""
        words = [
            "docker",
            "run",
            "--rm",
            "--publish",
            f"127.0.0.1::{CONTAINER_PORT}",
            "--shm-size",
            self.shm_size,
        ]
        words += self.gpus.run_flags() if self.gpus else []
        words += ["--memory", self.memory_limit] if self.memory_limit else []
        for mount in self.mounts:
            words += ["--volume", f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"]
        for name in sorted(self.env):
            words += ["--env", name if is_secret_name(name) else f"{name}={self.env[name]}"]
        return shell_command([*words, self.image, *self.argv], env={})


def plan_container(
    spec: ServerSpec,
    *,
    image: str,
    entrypoint: tuple[str, ...],
    engine: Engine,
    gpus: GpuRequest | None,
    memory_limit: str | None,
    deadline: datetime,
    keep: bool = False,
) -> ContainerPlan:
    """Decide everything about a server's container.

    The image's ``entrypoint`` says how the model is given.  At the ``deadline`` the container may be swept
    even if its harness cannot be seen from there; with ``keep`` it is spared until then.

    Raises:
        UsageError: The arm sets a flag that belongs to the runtime.
    """
    argv = server_args(
        spec,
        engine,
        engine_command=entrypoint,
        host="0.0.0.0",  # noqa: S104  (inside the container; published on loopback only)
        port=str(CONTAINER_PORT),
    )
    return ContainerPlan(
        name=f"sleepwake-{re.sub('[^a-zA-Z0-9]+', '-', spec.cell)[:60].strip('-')}-{uuid.uuid4().hex[:12]}",
        image=image,
        argv=argv,
        env={**_passed_environment(spec), **server_env(spec, engine)},
        labels={
            RUN_LABEL: spec.run_id,
            CELL_LABEL: spec.cell,
            DEADLINE_LABEL: deadline.isoformat(timespec="seconds"),
            OWNER_LABEL: Owner.this_process().model_dump_json(),
            **({KEEP_LABEL: "1"} if keep else {}),
        },
        mounts=tuple(_mounts(spec)),
        gpus=gpus,
        shm_size=_SHM_SIZE[engine],
        memory_limit=memory_limit,
    )


def _mounts(spec: ServerSpec) -> Iterator[BindMount]:
    """Everything under its own path and read-only, but for the cache models are downloaded to."""
    files = {path.absolute() for path in spec.files}
    if is_local(spec.model):
        model = Path(spec.model).absolute()
        files |= {model, *_folders_linked_from(model)}
    else:
        cache = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser().absolute()
        cache.mkdir(parents=True, exist_ok=True)
        yield BindMount(source=cache, target=Path(HF_HOME_INSIDE), read_only=False)
    for path in sorted(files):
        yield BindMount(source=path.resolve(), target=path, read_only=True)


def _folders_linked_from(model: Path) -> set[Path]:
    """Return the folders outside a model folder that its links lead to.

    Hugging Face's cache keeps the files elsewhere and fills its model folders with links.
    """
    links = (entry for entry in model.rglob("*") if entry.is_symlink())
    targets = (Path(os.path.normpath(link.parent / link.readlink())) for link in links)
    return {target.parent for target in targets if not target.is_relative_to(model)}


def _passed_environment(spec: ServerSpec) -> dict[str, str]:
    """Return what a container needs of our own environment to download a model."""
    if is_local(spec.model):
        return {}
    passed = {name: os.environ[name] for name in _PASSED_FOR_HUB_MODELS if name in os.environ}
    return {**passed, "HF_HOME": HF_HOME_INSIDE}
