"""Who is at work in a run directory: one harness at most."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UsageError


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold the directory; the system lets go of it when the harness ends, however it ends.

    Raises:
        UsageError: another harness holds it.
    """
    with _opened(directory) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{directory}: another sleepwake is working on this run",
                remedy="wait for it, or interrupt it",
            ) from error
        yield


def is_held(directory: Path) -> bool:
    """Whether a harness is at work in ``directory``."""
    with _opened(directory) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
