"""How a history is written and read: one JSON line an event, on disk before the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from pydantic import ValidationError

from harness.errors import HistoryError, StorageError
from harness.history.events import EVENT, FORMAT_VERSION, CellStarted, Event
from harness.history.files import open_ordinary, storing
from harness.history.integrity import continues, opened, sealed, tip

_REMEDY = "free disk space or choose another place with --out; what was recorded so far is readable"


class HistoryWriter:
    """Appends events to one file; every event is with the operating system when ``write`` returns.

    Args:
        path: The file.  It must not be there yet, or what was recorded could be lost,
        goes_on: unless it is a history that something is added to.

    Raises:
        StorageError: the disk is full or the file cannot be written.  What was written
            before stays readable, and nothing more is written after it.
    """

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        self._path = path
        self._broken = False
        with storing(path, remedy=_REMEDY):
            path.parent.mkdir(parents=True, exist_ok=True)
            # One without digests goes on without: a chain that begins in the middle would prove nothing.
            self._tip = tip(path) if goes_on else ""
            self._file: IO[bytes] = path.open("ab" if goes_on else "xb", buffering=0)

    def write(self, event: Event) -> None:
        """Append ``event``."""
        if self._broken:
            raise StorageError(f"{self._path}: an earlier write failed, nothing more is recorded")
        written = event.model_dump_json(exclude_defaults=False).encode()
        if self._tip is None:
            line = memoryview(written + b"\n")
        else:
            whole, self._tip = sealed(written, before=self._tip)
            line = memoryview(whole)
        self._broken = True  # until the whole line is there
        with storing(self._path, remedy=_REMEDY):
            while line:
                line = line[self._file.write(line) :]
        self._broken = False

    def close(self) -> None:
        """Close the file; further events are refused."""
        self._broken = True
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_events(path: Path, *, ended_with: str | None = None) -> Iterator[Event]:
    """Yield the events of a history file in order.

    A last line that was cut off (the writer was killed in the middle of it) is left out;
    everything before it is there.

    Args:
        path: The file.
        ended_with: The digest of its last line when the cell had ended, if that is known; more may have been
            added since.

    Raises:
        HistoryError: the file is missing, damaged or changed before its end, or of a newer format; or it has
            lost its end.
    """
    try:
        file = open_ordinary(path)
    except OSError as error:
        raise HistoryError(
            f"cannot be read: {error.strerror}", path=path, remedy="name a run directory written by sleepwake"
        ) from error
    before: str | None = ""
    has_ended = ended_with is None
    with file:
        for number, stored in enumerate(file, start=1):
            if not stored.endswith(b"\n"):
                break
            line, digest = opened(stored)
            if number == 1 and digest is None:
                before = None
            if not continues(line, digest, before=before):
                raise HistoryError(
                    f"line {number} is not as it was written: something up to it was changed or moved",
                    path=path,
                    remedy="what it says is no evidence any more: run the cell again",
                )
            before = digest
            has_ended = has_ended or digest == ended_with
            yield _parse(line, path=path, number=number)
    if not has_ended:
        raise HistoryError(
            "it has lost its end, or is the history of another cell: run.json says how it ended",
            path=path,
            remedy="what is missing cannot be judged: run the cell again",
        )


def _parse(line: bytes, *, path: Path, number: int) -> Event:
    try:
        event = EVENT.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        raise HistoryError(
            f"line {number} is not an event of this version: {first['msg']}",
            path=path,
            remedy="the file was changed, damaged, or written by another version of sleepwake",
        ) from error
    if isinstance(event, CellStarted) and event.format != FORMAT_VERSION:
        raise HistoryError(
            f"history format {event.format}; this sleepwake reads format {FORMAT_VERSION}",
            path=path,
            remedy="judge it with the version of sleepwake that wrote it",
        )
    return event
