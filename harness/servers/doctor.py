"""What this machine can run, and what each missing thing would add."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from packaging.version import Version

from harness.errors import RuntimeUnavailableError
from harness.extras import Extra, how_to_get, lacks
from harness.installation import working_copy
from harness.models.cache import cache_directory
from harness.servers.docker.presence import examine_docker
from harness.servers.gpu import gpu_names
from harness.servers.process.runtime import ProcessRuntime, vllm_distribution

_GIB = 1024**3
_NEEDED_MEMORY_GIB = 6
_NEEDED_DISK_GIB = 6


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing a run may need: whether it is here, and what it is good for."""

    what: str
    available: bool
    detail: str


def examine_machine() -> Iterator[Finding]:
    """Look at everything a run can use."""
    yield _installed_engine()
    yield _process_runtime()
    yield _docker_runtime()
    yield _gpus()
    yield _memory()
    yield _disk()
    yield _extra("run", "clients and model tools", adds="everything that asks an engine (sleepwake run)")
    yield _extra("report", "drawing", adds="report.html with its plots (sleepwake report)")
    yield _extra("ray", "Ray", adds="cells on the nodes of a cluster (--executor ray)")
    yield _extra("fuzz", "Hypothesis", adds="the search for failing sequences (sleepwake fuzz)")


def _installed_engine() -> Finding:
    if found := vllm_distribution():
        return Finding(what="vLLM in this environment", available=True, detail=" ".join(found))
    command = "make setup" if working_copy() else "pip install 'sleepwake[cpu]'"
    return Finding(
        what="vLLM in this environment",
        available=False,
        detail=f"`{command}` adds it, and with it the process runtime",
    )


def _process_runtime() -> Finding:
    try:
        ProcessRuntime().check_available()
    except RuntimeUnavailableError as error:
        return _missing("process runtime", error, adds="servers as child processes, without containers")
    return Finding(what="process runtime", available=True, detail="servers as child processes")


def _docker_runtime() -> Finding:
    try:
        engine = examine_docker()
    except RuntimeUnavailableError as error:
        return _missing("docker runtime", error, adds="other releases of vLLM, images, and sleepwake bisect")
    gpus = "provides GPUs" if engine.hands_out_gpus else "without GPUs"
    images = sorted(engine.cpu_images, key=Version)
    built = f"; CPU images of vLLM {', '.join(images)}" if images else ""
    return Finding(
        what="docker runtime", available=True, detail=f"Docker Engine {engine.version}, {gpus}{built}"
    )


def _missing(what: str, error: RuntimeUnavailableError, *, adds: str) -> Finding:
    return Finding(what=what, available=False, detail=f"{error.cause}: {error.remedy}; it would add {adds}")


def _gpus() -> Finding:
    names = gpu_names()
    if names:
        return Finding(what="GPU", available=True, detail=", ".join(names))
    return Finding(
        what="GPU",
        available=False,
        detail="one would add vLLM's own sleep mode and the scenarios that need a GPU; "
        "without one, sleep mode is emulated on the CPU and reports say so",
    )


def _memory() -> Finding:
    free = psutil.virtual_memory().available / _GIB
    return Finding(
        what="memory",
        available=free >= _NEEDED_MEMORY_GIB,
        detail=f"{free:.0f} GiB free; the default model on a CPU needs about {_NEEDED_MEMORY_GIB}",
    )


def _disk() -> Finding:
    folder = cache_directory()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / _GIB
    return Finding(
        what="disk",
        available=free >= _NEEDED_DISK_GIB,
        detail=f"{free:.0f} GiB free at {folder}; an installation needs about {_NEEDED_DISK_GIB}",
    )


def _extra(extra: Extra, what: str, *, adds: str) -> Finding:
    if lacks(extra):
        return Finding(what=what, available=False, detail=f"{how_to_get(extra)} adds {adds}")
    return Finding(what=what, available=True, detail=adds)
