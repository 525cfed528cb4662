"""A server's log file: its end, what it says about a failed boot, and no secrets in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from harness.errors import StorageError
from harness.redaction import HIDDEN, hide

_TAIL_BYTES = 64 * 1024
_EXCEPTION = re.compile(r"^(?:\([^)]*\) )?((?:\w+\.)*\w*(?:Error|Exception): .+)$", re.MULTILINE)


class Diagnosis(NamedTuple):
    """What a log says went wrong, and what to do about it."""

    cause: str
    remedy: str


# The first pattern that matches wins: the more specific ones stand first.
_KNOWN_FAILURES: tuple[tuple[re.Pattern[str], Diagnosis], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), Diagnosis(cause, remedy))
    for pattern, cause, remedy in (
        (
            r"failed to initialize nvml|nvml_error|driver/library version mismatch",
            "the GPU was lost (NVML cannot be initialised)",
            "check `nvidia-smi`; a container loses its GPUs when systemd reloads, restart it or use CDI",
        ),
        (
            r"no cuda-capable device|cuda driver initialization failed|no cuda gpus are available",
            "the server sees no GPU",
            "check `nvidia-smi` and the NVIDIA container toolkit",
        ),
        (
            (
                r"cuda out of memory|outofmemoryerror|less than desired gpu memory utilization"
                r"|no available memory for the cache blocks"
            ),
            "the GPU does not have enough free memory",
            "free it, or lower --gpu-memory-utilization or --max-model-len",
        ),
        (
            r"cuda error|cublas_status|cudnn_status|device-side assert|xid \d+",
            "the GPU failed while the server started",
            "check `nvidia-smi -q` and the kernel log for Xid errors",
        ),
        (
            r"address already in use",
            "its port was taken by another program",
            "run again: another free port is picked",
        ),
        (
            r"sleep mode is not supported on current platform",
            "this engine has no sleep mode",
            "install sleepwake beside vLLM in the engine's environment: it brings the CPU sleep mode",
        ),
        (r"no space left on device", "the disk is full", "free disk space"),
        (
            r"no module named '?vllm",
            "vLLM is not installed where the engine runs",
            "install sleepwake[cpu] or sleepwake[gpu], or choose another engine command",
        ),
        (
            r"unrecognized arguments|ambiguous option|invalid choice|expected (?:one|at least one) argument",
            "this vLLM does not accept the flags",
            "compare the arm's args with `vllm serve --help` of that version",
        ),
        (
            r"gated repo|401 client error|repository not found",
            "the model is gated or does not exist",
            "set HF_TOKEN to a token with access, or give another --model",
        ),
        (
            r"couldn't connect to ['\"]?https://huggingface|offline mode is enabled|max retries exceeded",
            "the model could not be downloaded",
            "check the network, or give --model a folder",
        ),
    )
)


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending, with its folder.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise StorageError(
            f"the server log {path} cannot be written: {error.strerror}",
            remedy="free disk space, or choose another --out",
        ) from error


def tail(path: Path, lines: int, *, start: int = 0, secrets: Iterable[str] = ()) -> str:
    """Return the last lines of a log, from byte ``start`` on; empty where there is none."""
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start, end - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return hide("\n".join(text.splitlines()[-lines:]), secrets)


def diagnose(log: str) -> Diagnosis | None:
    """Return what a log says about why a server could not start; None when it says nothing known."""
    for pattern, diagnosis in _KNOWN_FAILURES:
        if pattern.search(log):
            return diagnosis
    return None


def explain(cause: str, log: str) -> Diagnosis:
    """Return what happened, with what the log says about why, and what to do about it."""
    diagnosis = diagnose(log)
    if diagnosis is not None:
        return Diagnosis(f"{cause}: {diagnosis.cause}", diagnosis.remedy)
    error = last_error(log)
    return Diagnosis(f"{cause}: {error}" if error else cause, "read the last lines of its log")


def last_error(log: str) -> str | None:
    """Return the last exception a Python log ends with, such as ``ValueError: ...``."""
    found = _EXCEPTION.findall(log)
    return found[-1] if found else None


def scrub(path: Path, secrets: Iterable[str]) -> None:
    """Replace secret values in a finished log; leaves it untouched when it has none."""
    values = [secret.encode() for secret in sorted(secrets, key=len, reverse=True)]
    try:
        content = path.read_bytes()
        if not any(value in content for value in values):
            return
        for value in values:
            content = content.replace(value, HIDDEN.encode())
        path.write_bytes(content)
    except (FileNotFoundError, NotADirectoryError):
        return  # the server never wrote one
