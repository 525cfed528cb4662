"""Chooses the runtime: the best one the machine has, or the one that was asked for, and says why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import RuntimeUnavailableError, UsageError
from harness.extras import require
from harness.reaching import NOTHING_SPECIAL, Access
from harness.servers.attached import AttachedRuntime
from harness.servers.base import Runtime
from harness.servers.docker.presence import examine_docker, may_have_docker, sweep_containers
from harness.servers.gpu import gpu_names
from harness.servers.inprocess import InprocessRuntime
from harness.servers.process.runtime import ProcessRuntime, installed_vllm

if TYPE_CHECKING:
    from harness.servers.docker.engine import ImageSource

RUNTIMES = ("auto", "docker", "process", "attached", "inprocess")

NEWEST_VLLM = "0.32.0"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A runtime, and in words why it was taken."""

    runtime: Runtime
    reason: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine has to offer.

    Attributes:
        no_docker: Why Docker cannot be used; None when an engine answers.
        docker_gpus: The GPUs that containers can get.
        no_process: Why the process runtime cannot be used; None when it can.
        vllm: The version of vLLM in this environment; None where there is none.
        cpu_images: The vLLM releases whose CPU image the Docker Engine has already.
    """

    no_docker: str | None
    docker_gpus: tuple[str, ...]
    no_process: str | None
    vllm: str | None
    cpu_images: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What ``--runtime``, ``--vllm``, ``--image`` and ``--endpoint`` ask for; None where not given."""

    runtime: str = "auto"
    vllm: str | None = None
    image: str | None = None
    endpoint: str | None = None


def choose_runtime(wanted: Wanted, *, access: Access = NOTHING_SPECIAL, keep_servers: bool = False) -> Choice:
    """Choose the runtime that is wanted; starts, pulls and builds nothing.

    ``access`` is what a server to attach to wants to be shown.

    Raises:
        UsageError: The options contradict each other, or need a package that is not installed.
        RuntimeUnavailableError: The machine cannot run what was asked for.
    """
    check_options(wanted)
    runtime: Runtime
    if wanted.endpoint is not None:
        runtime, reason = AttachedRuntime(endpoint=wanted.endpoint, access=access), "an endpoint was given"
    else:
        if wanted.runtime == "docker" or wanted.image is not None:
            require("docker", for_what="the docker runtime")
        machine = look_at_machine()
        name, reason = decide(wanted, machine)
        match name:
            case "process":
                runtime = ProcessRuntime(keep=keep_servers)
            case "inprocess":
                runtime = InprocessRuntime(keep=keep_servers)
            case _:
                runtime = _docker_runtime(wanted, machine, keep=keep_servers)
    runtime.check_available()
    return Choice(runtime=runtime, reason=reason)


def check_options(wanted: Wanted) -> None:
    """Return when the options fit each other.

    Raises:
        UsageError: They do not.
    """
    if wanted.runtime not in RUNTIMES:
        raise UsageError(f"there is no runtime {wanted.runtime!r}", remedy=f"one of {', '.join(RUNTIMES)}")
    if wanted.runtime == "attached" and wanted.endpoint is None:
        raise UsageError("the attached runtime needs a server", remedy="give --endpoint http://host:port")
    if wanted.endpoint is not None and (
        wanted.runtime not in {"auto", "attached"} or wanted.vllm or wanted.image
    ):
        raise UsageError(
            "an endpoint has its own vLLM already", remedy="leave out --runtime, --vllm and --image"
        )
    if wanted.vllm and wanted.image:
        raise UsageError("an image has its own vLLM already", remedy="give --vllm or --image")
    if wanted.runtime in {"process", "inprocess"} and wanted.image:
        raise UsageError(
            f"the {wanted.runtime} runtime has no images", remedy="use --runtime docker, or leave out --image"
        )


def decide(wanted: Wanted, machine: Machine) -> tuple[str, str]:
    """Return a runtime's name, and why: Docker with a GPU, Docker without, process; others when asked for.

    Without a GPU, and without being asked for, Docker is taken only where its image is there
    already: building one takes minutes and a network that the machine may not have.

    Raises:
        RuntimeUnavailableError: The machine has neither, or not the one that was asked for.
    """
    refusals = {
        "docker": _docker_refusal(wanted, machine),
        "process": _process_refusal(wanted, machine),
        "inprocess": _process_refusal(wanted, machine),
    }
    automatic = ("docker", "process")
    candidates = automatic if wanted.runtime == "auto" else (wanted.runtime,)
    chosen = next((name for name in candidates if refusals[name] is None), None)
    if chosen is None:
        raise RuntimeUnavailableError(
            "; ".join(f"{name}: {refusals[name]}" for name in candidates),
            remedy="`sleepwake doctor` says what is missing for each runtime",
        )
    if wanted.runtime == chosen:
        return chosen, "asked for"
    if chosen == "process":
        return chosen, f"{refusals['docker']}; vLLM {machine.vllm} is installed here"
    if machine.docker_gpus:
        return chosen, f"a Docker Engine provides {', '.join(machine.docker_gpus)}"
    return chosen, "a Docker Engine answers; it provides no GPU"


def look_at_machine() -> Machine:
    """Find out what this machine has to offer."""
    no_docker, hands_out_gpus, cpu_images = None, False, frozenset[str]()
    try:
        engine = examine_docker()
        hands_out_gpus, cpu_images = engine.hands_out_gpus, engine.cpu_images
    except RuntimeUnavailableError as error:
        no_docker = error.cause
    no_process = None
    try:
        ProcessRuntime().check_available()
    except RuntimeUnavailableError as error:
        no_process = error.cause
    return Machine(
        no_docker=no_docker,
        docker_gpus=gpu_names() if hands_out_gpus and _leased_gpus() != () else (),
        no_process=no_process,
        vllm=installed_vllm(),
        cpu_images=cpu_images,
    )


def sweep_all() -> list[str]:
    """Remove what dead harnesses left behind, asked to or not; say what, a sentence each."""
    sentences = ProcessRuntime().sweep(kept_too=True)
    try:
        return [*sentences, *sweep_containers()]
    except RuntimeUnavailableError as error:
        return [*sentences, f"did not look for containers: {error.cause}"] if may_have_docker() else sentences


def _docker_refusal(wanted: Wanted, machine: Machine) -> str | None:
    if machine.no_docker:
        return machine.no_docker
    if machine.docker_gpus or wanted.image or wanted.runtime == "docker":
        return None
    version = _version(wanted, machine)
    if version in machine.cpu_images or _process_refusal(wanted, machine) is not None:
        return None
    return f"no CPU image of vLLM {version} yet (`sleepwake image build --vllm {version}` makes one)"


def _process_refusal(wanted: Wanted, machine: Machine) -> str | None:
    if wanted.image:
        return "it has no images"
    if machine.no_process:
        return machine.no_process
    if wanted.vllm and wanted.vllm != machine.vllm:
        return f"vLLM {machine.vllm} is installed here, not {wanted.vllm}"
    return None


def _docker_runtime(wanted: Wanted, machine: Machine, *, keep: bool) -> Runtime:
    from harness.servers.docker.runtime import DockerRuntime

    image = _image(wanted, machine)
    if machine.docker_gpus:
        return DockerRuntime(image=image, engine="gpu", gpus=_leased_gpus(), keep=keep)
    return DockerRuntime(image=image, engine="cpu", keep=keep)


def _image(wanted: Wanted, machine: Machine) -> ImageSource:
    from harness.servers.docker.engine import PulledImage
    from harness.servers.docker.images.official import official_gpu_image
    from harness.servers.docker.images.source import BuiltImage

    if wanted.image:
        return PulledImage(wanted.image)
    version = _version(wanted, machine)
    if machine.docker_gpus:
        return PulledImage(official_gpu_image(version))
    return BuiltImage(vllm_version=version)


def _version(wanted: Wanted, machine: Machine) -> str:
    return wanted.vllm or machine.vllm or NEWEST_VLLM


def _leased_gpus() -> tuple[str, ...] | None:
    """Return the GPUs this process was given, as schedulers say it; None for all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if visible is None else tuple(device for device in visible.split(",") if device)
