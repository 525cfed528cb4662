"""GPUs of this machine, as ``nvidia-smi`` tells them; it comes with every driver."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

import anyio
import anyio.to_thread

_TIMEOUT_S = 20.0
_MIB = 1024 * 1024


def gpu_names() -> tuple[str, ...]:
    """Return the model names of the GPUs that work; empty without driver or GPU."""
    answer = _nvidia_smi("--query-gpu=name", "--format=csv,noheader")
    return tuple(line.strip() for line in answer.splitlines() if line.strip()) if answer else ()


async def gpu_memory(devices: Sequence[str] | None) -> int | None:
    """Return the bytes in use on some GPUs, or on all, together; None where that cannot be measured."""
    arguments = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    if devices is not None:
        arguments.append(f"--id={','.join(devices)}")
    answer = await anyio.to_thread.run_sync(_nvidia_smi, *arguments)
    values = answer.split() if answer else []
    if not values or not all(value.isdigit() for value in values):  # "[N/A]" on MIG slices
        return None
    return sum(int(value) for value in values) * _MIB


def _nvidia_smi(*arguments: str) -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        finished = subprocess.run(  # noqa: S603  (no shell, and no word of it comes from outside)
            [program, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return finished.stdout
