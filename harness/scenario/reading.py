"""Reads files that a stranger may have written: no larger than expected, ordinary ones, none outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.errors import ScenarioError

MEBIBYTE = 2**20


def read_file(path: Path, *, most_bytes: int, location: str, within: Path | None = None) -> bytes:
    """Return the content of an ordinary file, which must lie ``within`` a folder, wherever links lead.

    Raises:
        FileNotFoundError: there is no such file.
        ScenarioError: it is not a regular file, too large, outside the folder, or cannot be read.
    """
    if within is not None and not _lies_within(path, within):
        raise ScenarioError(
            f"{path} lies outside {within}",
            location=location,
            remedy="put the file itself there: no `..`, no link that leads out",
        )
    try:
        # A pipe without a writer would otherwise be waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ScenarioError(f"{path} is not a regular file", location=location, remedy="name a file")
            with open(handle, "rb", closefd=False) as file:
                content = file.read(most_bytes + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ScenarioError(
            f"{path} cannot be read: {error.strerror}", location=location, remedy="name a readable file"
        ) from error
    if len(content) > most_bytes:
        raise ScenarioError(
            f"{path} has more than {most_bytes // MEBIBYTE} MiB", location=location, remedy="make it smaller"
        )
    return content


def _lies_within(path: Path, folder: Path) -> bool:
    # A path that is absolute, or that links lead elsewhere, is seen for what it is.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
