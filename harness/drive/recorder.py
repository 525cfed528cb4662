"""The one place that stamps events with the cell's clock, stores them and shows them to whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from harness.history.events import Event
from harness.history.store import HistoryWriter

Watcher = Callable[[Event], None]
"""Is shown every event after it has been stored."""


class Recorder:
    """Writes one cell's history.  ``now()`` is the cell's clock: seconds since it started."""

    def __init__(self, path: Path, *, watcher: Watcher) -> None:
        self._writer = HistoryWriter(path)
        self._watcher = watcher
        self._started = time.monotonic()
        self._pass_numbers = count(1)

    def now(self) -> float:
        """Seconds since the cell started, on a monotonic clock."""
        return time.monotonic() - self._started

    def next_pass_number(self) -> int:
        """Return the running number of a pass that is about to start."""
        return next(self._pass_numbers)

    def record(self, event: Event) -> None:
        """Store ``event``, then show it to the watcher.

        Raises:
            StorageError: it could not be stored; what was stored before stays readable.
        """
        self._writer.write(event)
        self._watcher(event)

    def close(self) -> None:
        """Close the history."""
        self._writer.close()
