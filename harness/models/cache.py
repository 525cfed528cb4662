"""Folders that are made once and kept in the cache directory.

Whoever uses one has it checked against its checksums first, which takes a fraction of a second.  A maker may
be killed and does not get in another's way: a lock admits one at a time, and a folder appears under its name
in one step, complete.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ModelError
from harness.models.checksums import full_checksums

MANIFEST = "sleepwake-manifest.json"

_DEADLINE_S = 600.0
_LOCK_POLL_S = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeptFolder:
    """A sound folder, what it was made of, and each file's SHA-256 in hexadecimal."""

    folder: Path
    source: str
    checksums: Mapping[str, str]


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where models are kept: ``$SLEEPWAKE_CACHE`` or ``~/.cache/sleepwake``."""
    return Path(environ.get("SLEEPWAKE_CACHE") or "~/.cache/sleepwake").expanduser().absolute()


def kept(folder: Path, make: Callable[[Path, int], str], *, recipe: int, needed_bytes: int = 0) -> KeptFolder:
    """Return a folder, made by this call where there is no sound one.

    Args:
        folder: Where it is kept.
        make: Fills an empty folder and returns what it was made of.  It is also given the descriptor of the
            lock: a subprocess that inherits it keeps other makers out even when this process is killed.
        recipe: Counts up when ``make`` writes something else: older folders are then made again.
        needed_bytes: What must be free on the disk.

    Raises:
        ModelError: It cannot be made or kept.
    """
    try:
        if (sound := sound_folder(folder, recipe=recipe)) is not None:
            return sound
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder.with_name(f"{folder.name}.lock")) as lock:
            # Another process may have made it meanwhile.
            sound = sound_folder(folder, recipe=recipe)
            return sound or _make(folder, lambda empty: make(empty, lock), recipe, needed_bytes)
    except OSError as error:
        raise _no_room(folder, str(error)) from error


def sound_folder(folder: Path, *, recipe: int) -> KeptFolder | None:
    """Return the folder when its files are exactly those it was finished with."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = full_checksums(folder)
        found.pop(MANIFEST)
        if manifest["recipe"] == recipe and manifest["checksums"] == found:
            return KeptFolder(folder=folder, source=manifest.get("source", ""), checksums=found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.debug("nothing intact in %s: %r", folder, error)
    return None


def _make(folder: Path, make: Callable[[Path], str], recipe: int, needed_bytes: int) -> KeptFolder:
    """Make it beside its place and rename; whoever is here holds the lock, so leftovers are nobody's."""
    for leftover in folder.parent.glob(f"{folder.name}.unfinished-*"):
        shutil.rmtree(leftover)
    if shutil.disk_usage(folder.parent).free < needed_bytes:
        raise _no_room(folder, f"less than {needed_bytes // 10**6} MB are free")
    if folder.exists():
        logger.warning("%s is damaged or outdated and is made again", folder)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # the user of a container reads it too
        source = make(unfinished)
        (unfinished / MANIFEST).unlink(missing_ok=True)  # one that was copied is of other files
        checksums = full_checksums(unfinished)
        manifest = {"recipe": recipe, "source": source, "checksums": checksums}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return KeptFolder(folder=folder, source=source, checksums=checksums)


@contextmanager
def _exclusive(path: Path) -> Iterator[int]:
    """Hold the lock file ``path`` and yield its descriptor; the system frees it when the process ends."""
    deadline = time.monotonic() + _DEADLINE_S
    with path.open("w") as file:
        while not _locked(file.fileno()):
            if time.monotonic() > deadline:
                raise ModelError(
                    f"another process has held {path} for {_DEADLINE_S:.0f} s",
                    remedy="look for a sleepwake that hangs, or set SLEEPWAKE_CACHE to another directory",
                )
            time.sleep(_LOCK_POLL_S)
        yield file.fileno()


def _locked(descriptor: int) -> bool:
    """Try to lock, without waiting."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _no_room(folder: Path, reason: str) -> ModelError:
    """Say that the cache directory cannot hold a folder."""
    return ModelError(
        f"{folder.name} cannot be kept in {folder.parent}: {reason}",
        remedy="make room there, or set SLEEPWAKE_CACHE to a writable directory with more room",
    )
