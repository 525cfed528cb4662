"""How histories are written and read."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HistoryError, StorageError
from harness.history.events import CellFinished, CellStarted, Event
from harness.history.layout import HISTORY_FILE
from harness.history.store import HistoryWriter, read_events
from tests.history.strategies import cell_started, events


def written(path: Path, told: list[Event]) -> bytes:
    """Write a history and return the bytes of its file."""
    path.unlink(missing_ok=True)
    with HistoryWriter(path) as writer:
        for event in told:
            writer.write(event)
    return path.read_bytes()


@given(st.lists(events(), max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, told: list[Event]) -> None:
    """Every event of every kind comes back equal, in order."""
    path = tmp_path_factory.mktemp("round") / HISTORY_FILE
    written(path, told)
    assert list(read_events(path)) == told


@given(st.lists(events(), min_size=1, max_size=4), st.data())
def test_a_history_cut_at_any_byte_is_readable(
    tmp_path_factory: pytest.TempPathFactory, told: list[Event], data: st.DataObject
) -> None:
    """A writer killed in the middle of a line loses that line and nothing before it."""
    path = tmp_path_factory.mktemp("cut") / HISTORY_FILE
    whole = written(path, told)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    assert list(read_events(path)) == told[: whole[:cut].count(b"\n")]


@pytest.mark.parametrize("step", [1])
def test_a_history_cut_at_every_byte_is_readable(tmp_path: Path, step: int) -> None:
    """The same for each single byte of a small history."""
    told: list[Event] = [cell_started(), CellFinished(t=1.5)]
    path = tmp_path / HISTORY_FILE
    whole = written(path, told)
    for cut in range(0, len(whole) + 1, step):
        path.write_bytes(whole[:cut])
        assert list(read_events(path)) == told[: whole[:cut].count(b"\n")]


def damaged_lines() -> dict[str, Callable[[bytes], bytes]]:
    """Ways in which a whole line can be wrong."""
    return {
        "not JSON": lambda _: b"kind: cell_started",
        "not UTF-8": lambda _: b'{"kind": "\xff"}',
        "unknown kind": lambda line: line.replace(b"cell_finished", b"cell_vanished"),
        "unknown field": lambda line: line.replace(b'"t":', b'"extra": 1, "t":'),
        "missing field": lambda line: line.replace(b'"t":1.5', b'"t":null'),
        "negative time": lambda line: line.replace(b'"t":1.5', b'"t":-1.5'),
        "empty line": lambda _: b"",
    }


@pytest.mark.parametrize("kind", damaged_lines())
@pytest.mark.parametrize("place", [1, 2])
def test_damage_before_the_end_is_refused(tmp_path: Path, kind: str, place: int) -> None:
    """A whole line that is no event is an error that names file and line, never skipped.

    Of a history without digests, that is: with them nothing that was changed is read at all.
    """
    path = tmp_path / HISTORY_FILE
    events = (cell_started(), CellFinished(t=1.5), CellFinished(t=1.5))
    lines = [event.model_dump_json().encode() for event in events]
    lines[place] = damaged_lines()[kind](lines[place])
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(HistoryError, match=f"line {place + 1} is not an event") as caught:
        list(read_events(path))
    assert str(path) in str(caught.value)


def test_another_format_is_refused(tmp_path: Path) -> None:
    """A history of another format is not guessed at."""
    path = tmp_path / HISTORY_FILE
    written(path, [cell_started(format=2)])
    with pytest.raises(HistoryError, match="history format 2; this sleepwake reads format 1"):
        list(read_events(path))


def test_a_missing_history_is_refused(tmp_path: Path) -> None:
    """A run directory without a history is a usage error with a remedy."""
    with pytest.raises(HistoryError, match="cannot be read") as caught:
        list(read_events(tmp_path / HISTORY_FILE))
    assert caught.value.remedy


def test_every_event_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    """Nothing waits in a buffer that a killed process would take along."""
    path = tmp_path / HISTORY_FILE
    with HistoryWriter(path) as writer:
        for count in range(1, 4):
            writer.write(CellFinished(t=count))
            assert path.read_bytes().count(b"\n") == count


def test_a_history_is_never_overwritten(tmp_path: Path) -> None:
    """A second writer for the same file is refused and harms nothing."""
    path = tmp_path / HISTORY_FILE
    before = written(path, [cell_started()])
    with pytest.raises(StorageError, match="cannot be written"):
        HistoryWriter(path)
    assert path.read_bytes() == before


def test_the_directory_is_made(tmp_path: Path) -> None:
    """A writer makes the cell's directory itself."""
    path = tmp_path / "cells" / "scenario" / HISTORY_FILE
    assert written(path, [cell_started()])


def test_a_closed_history_takes_no_more(tmp_path: Path) -> None:
    """Writing after the end is an error, not a loss."""
    writer = HistoryWriter(tmp_path / HISTORY_FILE)
    writer.close()
    with pytest.raises(StorageError):
        writer.write(cell_started())


class FullDisk(io.RawIOBase):
    """A file on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.content = b""
        self.room = room

    def writable(self) -> bool:
        """It can be written to, for a while."""
        return True

    def write(self, data: object) -> int:
        """Take what fits; fail when nothing does."""
        fits = bytes(memoryview(data)[: self.room - len(self.content)])  # type: ignore[arg-type] # bytes-like
        if not fits:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content += fits
        return len(fits)


@given(st.integers(0, 3000))
def test_a_full_disk_is_told_and_leaves_a_readable_history(
    tmp_path_factory: pytest.TempPathFactory, room: int
) -> None:
    """Where the disk runs full the writer says so, writes no more, and what is there can be read."""
    path = tmp_path_factory.mktemp("full") / HISTORY_FILE
    writer = HistoryWriter(path)
    disk = FullDisk(room)
    writer._file.close()
    writer._file = disk  # type: ignore[assignment] # as unbuffered as the real one
    line = len(written(path.with_name("another"), [cell_started()]))
    for _ in range(room // line):
        writer.write(cell_started())
    with pytest.raises(StorageError, match="No space left on device"):
        writer.write(cell_started())
    disk.room += 10_000
    with pytest.raises(StorageError, match="an earlier write failed"):
        writer.write(CellFinished(t=2))
    path.write_bytes(disk.content)
    assert list(read_events(path)) == [cell_started()] * (room // line)


def test_an_event_is_one_line(tmp_path: Path) -> None:
    """Text with line breaks of any kind stays on its event's line."""
    told = cell_started(why="one\ntwo\r\nthree\u2028four\x85five")
    assert written(tmp_path / HISTORY_FILE, [told]).count(b"\n") == 1
    [back] = read_events(tmp_path / HISTORY_FILE)
    assert isinstance(back, CellStarted)
    assert back.why == told.why
