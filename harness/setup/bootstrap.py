"""Makes ``.venv`` what ``requirements.lock`` says, from nothing but Python 3.11 or newer.

``make`` runs it before everything else, with the system's Python: it uses the standard library alone, and its
syntax is old enough to tell an old Python what is wrong.  When there is nothing to do it says nothing.
An interrupted run is continued by the next one; of two at a time the second waits.
Not uv: it would have to be installed first, and does not read pip's configuration (mirrors, certificates).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PYPROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "setup-finished"
LOG = VENV / "setup.log"

OLDEST_PYTHON = (3, 11)
NEEDED_BYTES = 5 * 10**9
LOG_TAIL_LINES, LOG_LINE_LENGTH = 10, 250
NOISE = re.compile(r"WARNING: (Location .* is ignored|Retrying \(Retry\(total=[1-9])|Ignoring \S+: markers")

# Asked only when pip does not find the CPU build of torch where it usually looks.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# Their CUDA builds break transformers on import; harness/setup/lock.py says how they would get here.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
LOAD_VLLM = "import transformers; from vllm.platforms import current_platform as p; p.import_kernels()"

EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED = 4, 130

# What a failed command printed, what that means ({} is what was matched in parentheses), and what to do.
NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
NO_TRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED")
NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|Failed to establish a new connection|Connection refused"
    r"|Connection reset|Network is unreachable|timed out|ProxyError"
)
NO_PACKAGE = re.compile(r"No matching distribution found for (\S+)")
DIAGNOSES = (
    (NO_ROOM, "the disk is full", "make room where the clone, TMPDIR and pip's cache are (5 GB in all)"),
    (
        NO_TRUST,
        "a package index shows a certificate not trusted here",
        "set PIP_CERT to your network's bundle",
    ),
    (NO_NETWORK, "a package index cannot be reached", "get online, or name one in reach (PIP_INDEX_URL)"),
    (
        NO_PACKAGE,
        "no package index offers {} for this Python",
        "take another Python (make PYTHON=/path/to/python3 ...) or add an index (PIP_EXTRA_INDEX_URL)",
    ),
)


class SetupError(Exception):
    """What went wrong, and what the reader can do."""

    def __init__(self, cause: str, *, remedy: str) -> None:
        super().__init__(f"{cause}\n  -> {remedy}")


def main() -> int:
    """Set up, unless that has been done; return the exit code."""
    try:
        check_machine()
        with exclusive() as lock:
            if not is_finished():
                set_up(lock)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return EXIT_INFRASTRUCTURE
    except OSError as error:
        print(f"setup: {error}\n  -> {VENV} must be a directory with room to write in", file=sys.stderr)
        return EXIT_INFRASTRUCTURE
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the next run continues", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def check_machine() -> None:
    """Refuse a Python that is too old, and a system vLLM has no CPU wheels for."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"this is Python {platform.python_version()}, and 3.11 or newer is needed",
            remedy="name another: make PYTHON=/path/to/python3.12 ...",
        )
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise SetupError(
            f"the locked vLLM for CPUs runs on Linux x86-64, and this is {sys.platform} {platform.machine()}",
            remedy="run `pip install '.[run]'` and `sleepwake run --endpoint URL` against a server elsewhere",
        )


@contextlib.contextmanager
def exclusive() -> Iterator[int]:
    """Admit one set-up at a time; yields the lock's descriptor, which subprocesses inherit to keep it."""
    with PYPROJECT.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def is_finished() -> bool:
    """Whether the environment was finished from the files that are here now."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == fingerprint()


def fingerprint() -> str:
    """One hash over everything the environment depends on."""
    files = [path.read_bytes() for path in (LOCK, PYPROJECT, Path(__file__))]
    return hashlib.sha256(repr((sys.version_info[:2], VENV, files)).encode()).hexdigest()


def set_up(lock: int) -> None:
    """Create what is missing, install what the lock names, and see that it works."""
    started = time.monotonic()
    say(f"Python {platform.python_version()}, environment {VENV}")
    check_space()
    if not is_usable():
        create_environment(lock)
    STAMP.unlink(missing_ok=True)
    LOG.write_text("")
    remove_half_installed()
    install_torch(lock)
    with step("installing the other packages, vLLM among them"):
        pip("install", "--no-deps", "--only-binary=:all:", "--requirement", LOCK, lock=lock)
    with step("installing sleepwake itself"):
        pip("install", "--no-deps", "--no-build-isolation", "--editable", ROOT, lock=lock)
    remove_unwanted(lock)
    with step("loading vLLM"):
        run(PYTHON, "-c", LOAD_VLLM, lock=lock)
    STAMP.write_text(fingerprint())
    say(f"ready after {time.monotonic() - started:.0f} s")


def is_usable() -> bool:
    """Whether the environment can be built upon: pip, this version of Python, and never moved."""
    probe = "import pip, sys; print(sys.version_info[:2])"
    try:
        found = subprocess.run(
            [PYTHON, "-I", "-c", probe], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        shebang = (VENV / "bin" / "pip").read_text()[:1000]
    except (OSError, subprocess.CalledProcessError):
        return False
    return found.strip() == str(sys.version_info[:2]) and str(VENV) in shebang


def create_environment(lock: int) -> None:
    """Create an empty environment in place of whatever is there."""
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        raise SetupError(
            f"{sys.executable} has no venv module with pip",
            remedy="install it (Debian: apt install python3-venv), or: make PYTHON=/path/to/python3",
        )
    with step("creating .venv"):
        VENV.mkdir(exist_ok=True)
        run(sys.executable, "-m", "venv", "--clear", VENV, lock=lock)


def check_space() -> None:
    """Refuse to begin what would fill the disk; with torch the greater part is there already."""
    free = shutil.disk_usage(VENV if VENV.exists() else ROOT).free
    if free < NEEDED_BYTES and not any(VENV.glob("lib/python3.*/site-packages/torch")):
        raise SetupError(
            f"only {free / 1e9:.1f} GB are free on the disk of {VENV}",
            remedy=f"make room there: the packages need {NEEDED_BYTES / 1e9:.0f} GB",
        )


def remove_half_installed() -> None:
    """Let pip install again what a killed pip left half-way: a package without the RECORD it writes last."""
    for metadata in site_packages().glob("*.dist-info"):
        if not (metadata / "RECORD").exists():
            shutil.rmtree(metadata)
    for leftover in site_packages().glob("~*"):  # what it was replacing
        shutil.rmtree(leftover)


def site_packages() -> Path:
    """Where the environment keeps its packages."""
    return next(VENV.glob("lib/python3.*/site-packages"))


def remove_unwanted(lock: int) -> None:
    """Remove what an earlier, other installation brought."""
    unwanted = [name for name in UNWANTED if any(site_packages().glob(f"{name}-*.dist-info"))]
    if unwanted:
        with step(f"removing {', '.join(unwanted)}"):
            pip("uninstall", "--yes", *unwanted, lock=lock)


def install_torch(lock: int) -> None:
    """Install the CPU build of torch, which most package indexes do not offer."""
    (torch,) = re.findall(r"^torch==.*$", LOCK.read_text(), re.MULTILINE)
    install = ("install", "--no-deps", "--only-binary=:all:", torch)
    with step(f"installing {torch}"):
        try:
            pip(*install, lock=lock)
        except SetupError:
            pip(*install, "--retries=0", f"--extra-index-url={TORCH_INDEX}", lock=lock)


def pip(command: str, *arguments: object, lock: int) -> None:
    """Run one of pip's commands in the environment."""
    run(
        PYTHON, "-I", "-m", "pip", command, "--disable-pip-version-check", "--no-input", *arguments, lock=lock
    )


def run(*command: object, lock: int) -> None:
    """Run a command, its output into the log; what it printed tells why it failed."""
    with LOG.open("a+") as log:
        start = log.seek(0, os.SEEK_END)
        arguments = [str(argument) for argument in command]
        status = subprocess.run(arguments, stdout=log, stderr=log, check=False, pass_fds=[lock]).returncode
        log.seek(start)
        if status != 0:
            raise failure(" ".join(arguments), log.read())


def failure(command: str, output: str) -> SetupError:
    """Say why a command failed, with the end of what it printed."""
    cause, remedy = diagnosis(output)
    lines = [line[:LOG_LINE_LENGTH] for line in output.splitlines() if not NOISE.match(line)]
    tail = "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
    return SetupError(f"{cause}\n  $ {command}\n{tail}", remedy=f"{remedy}; all of it is in {LOG}")


def diagnosis(output: str) -> tuple[str, str]:
    """The cause and the remedy a failed command's output tells of."""
    for pattern, cause, remedy in DIAGNOSES:
        if found := pattern.search(output):
            return cause.format(*found.groups()), remedy
    return "a command failed", "`make clean` and then the same again starts afresh"


@contextlib.contextmanager
def step(label: str) -> Iterator[None]:
    """Tell that a step begins and how long it took."""
    say(f"{label} ...", end="")
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - started:.1f} s", flush=True)


def say(text: str, end: str = "\n") -> None:
    """Print a line of progress at once, whoever reads it."""
    print(f"setup: {text}", end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
