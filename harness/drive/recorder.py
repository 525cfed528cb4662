"""The one place that stamps events with the cell's clock, stores them and shows them to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio

from harness.history.events import CellStarted, Event
from harness.history.passes import PassStarted
from harness.history.store import HistoryWriter, read_events

Watcher = Callable[[Event], None]
"""Is shown every event after it has been stored."""


def unwatched(_: Event) -> None:
    """Nobody looks on."""


class Recorder:
    """Writes one cell's history.  ``now()`` is the cell's clock: seconds since it started."""

    def __init__(self, path: Path, *, watcher: Watcher) -> None:
        self._path = path
        self._writer = HistoryWriter(path)
        self._watcher = watcher
        self._started = anyio.current_time()
        self._last_pass = 0

    def branch(self, path: Path, *, begin: CellStarted, watcher: Watcher) -> Recorder:
        """Begin another history with all that this one holds so far, on the same clock.

        ``begin`` stands in for the first event: whose history it is.

        Raises:
            StorageError: it could not be stored.
        """
        branch = Recorder(path, watcher=watcher)
        branch._started, branch._last_pass = self._started, self._last_pass
        for number, event in enumerate(read_events(self._path)):
            branch._writer.write(event if number else begin)
        return branch

    @classmethod
    def taken_up(cls, earlier: Path, path: Path, *, begin: CellStarted, watcher: Watcher) -> Recorder:
        """Begin a history with all that another one holds; its clock goes on from the last event there.

        Args:
            earlier: That history.
            path: Where the new history is written.
            begin: Stands in for the first event: whose history it is.
            watcher: Is shown what is recorded from now on.

        Raises:
            HistoryError: ``earlier`` cannot be read.
            StorageError: it could not be stored.
        """
        recorder = cls(path, watcher=watcher)
        last = 0.0
        for number, event in enumerate(read_events(earlier)):
            recorder._writer.write(event if number else begin)
            last = max(last, event.t)
            if isinstance(event, PassStarted):
                recorder._last_pass = max(recorder._last_pass, event.number)
        recorder._started -= last
        return recorder

    def now(self) -> float:
        """Seconds since the cell started, on the clock that deadlines are kept by."""
        return anyio.current_time() - self._started

    def next_pass_number(self) -> int:
        """Return the running number of a pass that is about to start."""
        self._last_pass += 1
        return self._last_pass

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
