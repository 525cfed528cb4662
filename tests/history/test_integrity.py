"""Whatever is changed in what was recorded is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.errors import HistoryError
from harness.history.events import CellFinished, Event
from harness.history.integrity import is_sealed, resealed, tip
from harness.history.layout import RUN_FILE
from harness.history.observations import StepFinished
from harness.history.run_description import DescribedCell, RunDescription, read_description, write_description
from harness.history.store import HistoryWriter, read_events
from tests.history.strategies import cell_started

EVENTS: tuple[Event, ...] = (
    cell_started(),
    *(StepFinished(t=float(number), step=str(number), seconds=0.5) for number in range(4)),
    CellFinished(t=9.0),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history that has ended."""
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    with HistoryWriter(path) as writer:
        for event in EVENTS:
            writer.write(event)
    return path


def _read(path: Path, content: bytes, *, ended_with: str | None) -> list[object]:
    copy = path.with_name("copy.jsonl")
    copy.write_bytes(content)
    return list(read_events(copy, ended_with=ended_with))


def test_what_was_written_is_read(written: Path) -> None:
    """Digests are no part of the events."""
    assert tuple(read_events(written, ended_with=tip(written))) == EVENTS
    assert is_sealed(written)


@given(data=st.data())
def test_a_flipped_bit_is_noticed(written: Path, data: st.DataObject) -> None:
    """Wherever it is; the whole history is refused, since what follows rests on it."""
    content = bytearray(written.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(HistoryError):
        _read(written, bytes(content), ended_with=tip(written))


@given(length=st.integers(0, 10_000))
def test_a_lost_end_is_noticed(written: Path, length: int) -> None:
    """Where it is known that the cell had ended; else what is there is what was recorded so far."""
    content = written.read_bytes()
    assume(length < len(content))
    with pytest.raises(HistoryError, match="lost its end"):
        _read(written, content[:length], ended_with=tip(written))
    kept = _read(written, content[:length], ended_with=None)
    assert kept == list(EVENTS[: len(kept)])


@given(order=st.permutations(range(len(EVENTS))))
def test_exchanged_lines_are_noticed(written: Path, order: list[int]) -> None:
    """Also where each by itself is as it was written."""
    assume(order != sorted(order))
    lines = written.read_bytes().splitlines(keepends=True)
    with pytest.raises(HistoryError):
        _read(written, b"".join(lines[place] for place in order), ended_with=tip(written))


@pytest.mark.parametrize("number", range(len(EVENTS)))
@pytest.mark.parametrize("times", [0, 2])
def test_a_dropped_and_a_doubled_line_are_noticed(written: Path, number: int, times: int) -> None:
    """Whichever it is."""
    lines = written.read_bytes().splitlines(keepends=True)
    lines[number : number + 1] = [lines[number]] * times
    with pytest.raises(HistoryError):
        _read(written, b"".join(lines), ended_with=tip(written))


def test_what_is_added_goes_on_with_the_chain(tmp_path: Path) -> None:
    """A history that has ended may be added to, and holds what it ended with."""
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path) as writer:
        writer.write(EVENTS[0])
    ended_with = tip(path)
    with HistoryWriter(path, goes_on=True) as writer:
        writer.write(EVENTS[1])
    assert list(read_events(path, ended_with=ended_with)) == list(EVENTS[:2])
    assert tip(path) != ended_with


def test_the_history_of_another_cell_is_noticed(written: Path, tmp_path: Path) -> None:
    """Each is whole, and they are not the same."""
    other = tmp_path / "history.jsonl"
    with HistoryWriter(other) as writer:
        for event in (*EVENTS[:-1], CellFinished(t=9.5)):
            writer.write(event)
    with pytest.raises(HistoryError, match="of another cell"):
        list(read_events(other, ended_with=tip(written)))


def test_what_is_changed_on_purpose_gets_new_digests(written: Path, tmp_path: Path) -> None:
    """A bug report hides what is private; a history that had none gets none, and a cut end stays."""
    changed, ended_with = resealed(written.read_text().replace('"step":"2"', '"step":"***"') + "{")
    copy = tmp_path / "history.jsonl"
    copy.write_text(changed)
    assert len(list(read_events(copy, ended_with=ended_with))) == len(EVENTS)
    assert resealed('{"kind":"older"}\n') == ('{"kind":"older"}\n', None)
    assert resealed("") == ("", None)


def test_an_older_history_has_no_digests(tmp_path: Path) -> None:
    """It is read as before; where digests begin in the middle it was put together."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(event.model_dump_json().encode() + b"\n" for event in EVENTS[:2]))
    assert list(read_events(path)) == list(EVENTS[:2])
    assert not is_sealed(path)
    assert tip(path) is None
    with HistoryWriter(path, goes_on=True) as writer:
        writer.write(EVENTS[2])
    assert list(read_events(path)) == list(EVENTS[:3])


DESCRIPTION = RunDescription(
    run="2026-11-22T10-00-00", cells={"a.on": DescribedCell(arm="on"), "b.on": DescribedCell(arm="on")}
)


def _without_a_cell(content: dict[str, object]) -> None:
    cells = content["cells"]
    assert isinstance(cells, dict)
    del cells["b.on"]


@pytest.mark.parametrize(
    "change",
    [
        _without_a_cell,
        lambda content: content.update(fault="lose-weights"),
        lambda content: content.update(digest="0" * 16),
    ],
)
def test_a_changed_description_is_noticed(
    tmp_path: Path, change: Callable[[dict[str, object]], None]
) -> None:
    """A cell that is dropped, a value that is added."""
    write_description(tmp_path, DESCRIPTION)
    assert read_description(tmp_path).cells.keys() == DESCRIPTION.cells.keys()
    content = json.loads((tmp_path / RUN_FILE).read_text())
    change(content)
    (tmp_path / RUN_FILE).write_text(json.dumps(content))
    with pytest.raises(HistoryError, match="changed since"):
        read_description(tmp_path)


def test_a_description_may_be_laid_out_anew(tmp_path: Path) -> None:
    """Its digest is of what it says: neither blanks nor the order of keys count."""
    write_description(tmp_path, DESCRIPTION)
    content = json.loads((tmp_path / RUN_FILE).read_text())
    (tmp_path / RUN_FILE).write_text(json.dumps(dict(reversed(content.items()))))
    assert read_description(tmp_path).run == DESCRIPTION.run
