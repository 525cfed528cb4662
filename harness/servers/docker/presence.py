"""Whether this machine has a Docker Engine; can be asked where the Docker library is not installed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RuntimeUnavailableError
from harness.extras import how_to_get, lacks


@dataclass(frozen=True, kw_only=True)
class DockerEngine:
    """The engine of this machine; ``cpu_images`` are the vLLM releases whose CPU image it has already."""

    version: str
    hands_out_gpus: bool
    cpu_images: frozenset[str]


def examine_docker() -> DockerEngine:
    """Ask the engine of this machine what it has to offer.

    Raises:
        RuntimeUnavailableError: The library is missing, none answers, or it is on another machine.
    """
    require_library()
    from harness.servers.docker.engine import connected, engine_info
    from harness.servers.docker.images.source import built_versions

    with connected() as client:
        info = engine_info(client)
        return DockerEngine(
            version=info.version, hands_out_gpus=info.hands_out_gpus, cpu_images=built_versions(client)
        )


def sweep_containers() -> list[str]:
    """Remove the containers that dead harnesses left, asked to or not; say what, a sentence each.

    Raises:
        RuntimeUnavailableError: As :func:`examine_docker`.
    """
    require_library()
    from harness.servers.docker import runtime
    from harness.servers.docker.engine import connected

    with connected() as client:
        return runtime.sweep_containers(client, kept_too=True)


def require_library() -> None:
    """Return when the Docker library is installed.

    Raises:
        RuntimeUnavailableError: It is not.
    """
    if lacks("docker"):
        raise RuntimeUnavailableError("the Docker library is not installed", remedy=how_to_get("docker"))


def may_have_docker() -> bool:
    """Whether an engine is set up here at all, be it one that does not answer at the moment."""
    return "DOCKER_HOST" in os.environ or Path("/var/run/docker.sock").exists()
