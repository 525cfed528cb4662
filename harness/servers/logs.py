"""A server's log file: its end, what it says about a failed boot, and no secrets in it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from harness.history.files import storing
from harness.redaction import hide

LINES_READ = 2000
"""Of a log, to find why a server did not start: tracebacks are long, and so are lists of flags."""

LINES_SHOWN = 40

_TAIL_BYTES = 256 * 1024
_PREFIX = r"^(?:\([^)]*\) )?(?:[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] )?"
_EXCEPTION = re.compile(
    _PREFIX + r"(?P<error>(?:\w+\.)*\w*(?:Error|Exception): .+)$"
    r"(?:\n +Value error, (?P<invalid>.+?)(?: \[type=.*)?$)?",
    re.MULTILINE,
)
"""An exception, behind the prefixes of vLLM's processes and logger.

What pydantic refuses stands on the next line (vllm/engine/arg_utils.py makes ``VllmConfig`` of the flags).
"""

_CONSEQUENCE = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed"
    r"|Engine core proc .* died|EngineDeadError"
)
"""What one process of vLLM says of another's failure: the root cause stands above it."""

_REFUSED = re.compile(
    r"^[\w. -]+: error: (?P<why>(?:unrecognized arguments|ambiguous option|argument ).*)$", re.MULTILINE
)
"""What argparse says before it exits with code 2."""

_UNKNOWN = "unrecognized arguments:"
_FLAG = re.compile(r"(?<![\w-])--[a-z0-9][a-z0-9_-]+", re.IGNORECASE)
_ALIKE = 0.6
"""How much alike two flags must be for one to be taken for the other (:mod:`difflib`)."""


class Diagnosis(NamedTuple):
    """What a log says went wrong, and what to do about it."""

    cause: str
    remedy: str
    refused: bool = False
    """Whether vLLM was asked for what it does not know: then nothing is wrong with the machine."""


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
            r"operator torchvision::nms does not exist|libtorchaudio|libtorchcodec",
            "the GPU build of torchvision, torchaudio or torchcodec is installed beside torch for CPUs",
            "pip uninstall torchvision torchaudio torchcodec: a text model needs none of them",
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
    with storing(path, remedy="free disk space, or choose another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")


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
    if refused := _REFUSED.search(log):
        return Diagnosis(
            _why_refused(refused["why"], usage=log[: refused.start()]),
            "correct the arm's args, or the --vllm-arg, for this release",
            refused=True,
        )
    # Further above a known word may stand in a warning that did no harm.
    decisive = "\n".join((root_cause(log) or "", shown(log)))
    return next((diagnosis for pattern, diagnosis in _KNOWN_FAILURES if pattern.search(decisive)), None)


def explain(cause: str, log: str) -> Diagnosis:
    """Return what happened, with what the log says about why, and what to do about it."""
    diagnosis = diagnose(log)
    if diagnosis is not None:
        return diagnosis._replace(cause=f"{cause}: {diagnosis.cause}")
    error = root_cause(log)
    return Diagnosis(f"{cause}: {error}" if error else cause, "read the last lines of its log")


def root_cause(log: str) -> str | None:
    """Return the exception in a log that the others followed from, such as ``ValueError: ...``."""
    found = list(_EXCEPTION.finditer(log))
    followed = next((each.start() for each in found if _CONSEQUENCE.search(each["error"])), len(log))
    above = [each for each in found if each.start() < followed]
    return next((each["invalid"] or each["error"] for each in reversed(above or found)), None)


def shown(log: str) -> str:
    """The end of a log, as much as a report shows."""
    return "\n".join(log.splitlines()[-LINES_SHOWN:])


def _why_refused(why: str, *, usage: str) -> str:
    """What a parser refused; of flags it does not know, the nearest that its usage lists."""
    if not why.startswith(_UNKNOWN):
        return f"this vLLM does not accept the flags: {why}"
    unknown = [word for word in why.removeprefix(_UNKNOWN).split() if word.startswith("-")]
    if not unknown:
        return f"this vLLM does not accept the flags: {why}"
    known = sorted({each.lower() for each in _FLAG.findall(usage)})
    return f"this vLLM has no flag {' and no '.join(_with_nearest(flag, known) for flag in unknown)}"


def _with_nearest(flag: str, known: list[str]) -> str:
    name = flag.partition("=")[0]
    if not known:
        return name
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
    return f"{name} (the nearest it has is {nearest[0]})" if nearest else f"{name}, nor one of a similar name"


def scrub(path: Path, secrets: Iterable[str]) -> None:
    """Replace secret values in a finished log; leaves it untouched when it has none."""
    try:
        content = path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return  # the server never wrote one
    if (scrubbed := hide(content, secrets)) != content:
        path.write_bytes(scrubbed.encode("utf-8", "surrogateescape"))
