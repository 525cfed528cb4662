"""What is said to the Docker Engine, and what its refusals mean in our words."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.images import Image

from harness.errors import ImageError, InfrastructureError, RuntimeUnavailableError

NO_GPUS = "the Docker Engine cannot provide GPUs"
GET_GPUS = "install the NVIDIA container toolkit, or make CDI specifications with `nvidia-ctk cdi generate`"

_USUAL_HOST = "unix:///var/run/docker.sock"
_CALL_TIMEOUT_S = 30
_START_ENGINE = "start it (`systemctl start docker`), then run again"
_JOIN_GROUP = "add yourself to the group `docker`, and log in again"

# docker-py hands the operating system's error on as text only: "FileNotFoundError(2, 'No such file ...')".
_OPERATING_SYSTEM_ERROR = re.compile(r"\w+Error\(\d+, '([^']+)'\)")

# What the engine says when a machine, not a server, is in the way.
_KNOWN_REFUSALS: tuple[tuple[re.Pattern[str], type[InfrastructureError], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind, cause, remedy)
    for pattern, kind, cause, remedy in (
        (
            r"could not select device driver|unknown or invalid runtime name: nvidia|unresolvable cdi device",
            RuntimeUnavailableError,
            NO_GPUS,
            GET_GPUS,
        ),
        (
            r"nvml|nvidia-container-cli|driver/library version mismatch",
            InfrastructureError,
            "the GPU was lost",
            "check `nvidia-smi`; a reloaded systemd takes GPUs from running containers, CDI avoids it",
        ),
        (
            r"no space left on device",
            InfrastructureError,
            "the Docker Engine's disk is full",
            "`docker system df` shows what takes the space",
        ),
    )
)


class EngineInfo(NamedTuple):
    """What the Docker Engine says of itself, as far as it matters here."""

    version: str
    hands_out_gpus: bool
    by_cdi: bool


@contextmanager
def connected() -> Iterator[docker.DockerClient]:
    """Hold a connection to the engine of this machine (``DOCKER_HOST``, or the usual socket).

    Raises:
        RuntimeUnavailableError: None answers, we may not talk to it, or it is on another machine.
    """
    try:
        _knock()
        client = docker.from_env(timeout=_CALL_TIMEOUT_S)
    except (OSError, DockerException) as error:
        raise _unreachable("no Docker Engine answers", error) from error
    with closing(client):
        if not client.api.base_url.startswith("http+docker://"):
            raise RuntimeUnavailableError(
                f"the Docker Engine at {client.api.base_url} is on another machine",
                remedy="run sleepwake there: containers publish their port on their own loopback only",
            )
        yield client


def _knock() -> None:
    """Connect to the engine's socket and hang up: one that docker-py cannot connect, it never closes."""
    scheme, _, path = (os.environ.get("DOCKER_HOST") or _USUAL_HOST).partition("://")
    if scheme in {"unix", "http+unix"}:
        with socket.socket(socket.AF_UNIX) as ours:
            ours.settimeout(_CALL_TIMEOUT_S)
            ours.connect(path)


@contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Turn what the engine refuses, or fails to answer, into our errors, which say what was being done."""
    try:
        yield
    except APIError as error:
        raise refusal(doing, str(error.explanation or error)) from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise _unreachable(f"the Docker Engine does not answer while {doing}", error) from error


def refusal(doing: str, explanation: str) -> InfrastructureError:
    """Return our error for what the engine said."""
    for pattern, kind, cause, remedy in _KNOWN_REFUSALS:
        if pattern.search(explanation):
            return kind(f"{cause} ({doing}): {explanation}", remedy=remedy)
    return InfrastructureError(f"{doing} failed: {explanation}", remedy="read the Docker Engine's own log")


def engine_info(client: docker.DockerClient) -> EngineInfo:
    """Ask the engine about itself."""
    with speaking("asking for its properties"):
        return read_info(client.info())


def read_info(info: Mapping[str, object]) -> EngineInfo:
    """Read the answer of ``docker info``.

    GPUs are asked for by capability wherever the engine knows the ``nvidia`` runtime, and by
    CDI name on hosts that have only that (``DiscoveredDevices``, from Docker 28.2 on).
    """
    runtimes, devices = info.get("Runtimes"), info.get("DiscoveredDevices")
    has_runtime = isinstance(runtimes, dict) and "nvidia" in runtimes
    has_cdi = isinstance(devices, list) and any(
        isinstance(device, dict) and str(device.get("ID", "")).startswith("nvidia.com/gpu")
        for device in devices
    )
    return EngineInfo(
        version=str(info.get("ServerVersion", "")),
        hands_out_gpus=has_runtime or has_cdi,
        by_cdi=has_cdi and not has_runtime,
    )


def local_image(client: docker.DockerClient, reference: str) -> Image | None:
    """Return an image the engine has; None when it has none of that name."""
    with speaking(f"looking for the image {reference}"):
        try:
            return client.images.get(reference)
        except ImageNotFound:
            return None


class ImageSource(Protocol):
    """An image, wherever it comes from."""

    @property
    def reference(self) -> str:
        """Its name, known before it is there."""

    def provide(self, client: docker.DockerClient, *, on_progress: Callable[[str], None]) -> Image:
        """Return the image, made or fetched where the engine does not have it.  Blocks for minutes then.

        ``on_progress`` is told what is going on, often; what it raises ends the work.

        Raises:
            ImageError: It cannot be had.
        """


@dataclass(frozen=True)
class PulledImage:
    """An image of a registry, or one the engine already has."""

    reference: str

    def provide(self, client: docker.DockerClient, *, on_progress: Callable[[str], None]) -> Image:
        """Return it, pulled where the engine does not have it."""
        if image := local_image(client, self.reference):
            return image
        with speaking(f"pulling the image {self.reference}"):
            try:
                for message in client.api.pull(self.reference, stream=True, decode=True):
                    if "error" in message:
                        raise self._error(message["error"])
                    on_progress(f"{message.get('id', self.reference)}: {message.get('status', '')}")
            except APIError as error:
                raise self._error(str(error.explanation)) from error
            return client.images.get(self.reference)

    def _error(self, reason: str) -> ImageError:
        return ImageError(
            f"the image {self.reference} cannot be pulled: {reason}",
            remedy="check its name and the network, or build a CPU image with `sleepwake image build`",
        )


def digest(image: Image) -> str:
    """Return what names an image's content: its registry digest, or its local id where it has none."""
    digests = image.attrs.get("RepoDigests") or []
    return str(digests[0]) if digests else str(image.id)


def entrypoint(image: Image | None) -> tuple[str, ...]:
    """Return an image's entry point; empty where it has none or is not there."""
    return tuple((image.attrs["Config"].get("Entrypoint") if image else None) or ())


def _unreachable(what: str, error: Exception) -> RuntimeUnavailableError:
    reason = _OPERATING_SYSTEM_ERROR.search(f"{error} {error!r}")
    said = reason[1].lower() if reason else str(error)
    remedy = _JOIN_GROUP if said == "permission denied" else _START_ENGINE
    return RuntimeUnavailableError(f"{what} ({said})", remedy=remedy)
