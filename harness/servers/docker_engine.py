"""What is said to the Docker Engine, and what its refusals mean in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import NamedTuple

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.images import Image

from harness.errors import ImageError, InfrastructureError, RuntimeUnavailableError

NO_GPUS = "the Docker Engine cannot hand out GPUs"
GET_GPUS = "install the NVIDIA container toolkit, or make CDI specifications with `nvidia-ctk cdi generate`"

_CALL_TIMEOUT_S = 30
_START_ENGINE = "start it (`systemctl start docker`), then run again"

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
            "`docker system df` shows by what",
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
        client = docker.from_env(timeout=_CALL_TIMEOUT_S)
    except DockerException as error:
        raise _unreachable("no Docker Engine answers", error) from error
    with closing(client):
        if not client.api.base_url.startswith("http+docker://"):
            raise RuntimeUnavailableError(
                f"the Docker Engine at {client.api.base_url} is on another machine",
                remedy="run sleepwake there: containers publish their port on their own loopback only",
            )
        yield client


@contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Turn what the engine refuses, or fails to answer, into our errors.

    Args:
        doing: What is being done, for the message: ``"starting a container"``.
    """
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


def provide_image(client: docker.DockerClient, reference: str) -> Image:
    """Return an image, pulled where the engine does not have it.  Blocks for minutes then.

    Raises:
        ImageError: It does not exist, or could not be pulled.
    """
    if image := local_image(client, reference):
        return image
    remedy = (
        "check the name and the network (`docker pull`), or build a CPU image with `sleepwake image build`"
    )
    with speaking(f"pulling the image {reference}"):
        try:
            for progress in client.api.pull(reference, stream=True, decode=True):
                if "error" in progress:
                    raise ImageError(
                        f"the image {reference} cannot be pulled: {progress['error']}", remedy=remedy
                    )
        except APIError as error:
            raise ImageError(
                f"the image {reference} cannot be pulled: {error.explanation}", remedy=remedy
            ) from error
        return client.images.get(reference)


def digest(image: Image) -> str:
    """Return what names an image's content: its registry digest, or its local id where it has none."""
    digests = image.attrs.get("RepoDigests") or []
    return str(digests[0]) if digests else str(image.id)


def entrypoint(image: Image | None) -> tuple[str, ...]:
    """Return an image's entry point; empty where it has none or is not there."""
    return tuple((image.attrs["Config"].get("Entrypoint") if image else None) or ())


def _unreachable(what: str, error: Exception) -> RuntimeUnavailableError:
    if "permission denied" in str(error).lower():
        return RuntimeUnavailableError(
            f"{what}: permission denied", remedy="add yourself to the group `docker`, and log in again"
        )
    return RuntimeUnavailableError(f"{what}: {error}", remedy=_START_ENGINE)
