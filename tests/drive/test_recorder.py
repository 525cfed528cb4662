"""Histories that branch: each holds all that came before, and nothing of its sisters."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from harness.drive.recorder import Recorder
from harness.errors import StorageError
from harness.history.events import CellStarted, Event
from harness.history.observations import StepFinished
from harness.history.store import read_events
from tests.history.strategies import cell_started
from tests.trying import tries


def beginning(cell: str) -> CellStarted:
    """The first event of a cell's history."""
    return cell_started().model_copy(update={"cell": cell})


class Branching(RuleBasedStateMachine):
    """Writes to several histories at a time, each branched off another."""

    recorders = Bundle("recorders")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.written: dict[int, list[Event]] = {}
        self.shown: dict[int, list[Event]] = {}
        self.open: dict[int, Recorder] = {}

    @initialize(target=recorders)
    def begin(self) -> int:
        """The first history."""

        async def create() -> Recorder:
            return Recorder(self.folder / "0", watcher=self.shown.setdefault(0, []).append)

        self.open[0] = anyio.run(create)
        first = beginning("0")
        self.open[0].record(first)
        self.written[0] = [first]
        return 0

    @rule(which=recorders)
    def record(self, which: int) -> None:
        """Something happens in one of them."""
        event = StepFinished(t=len(self.written[which]), step=f"{which}", seconds=1)
        self.open[which].record(event)
        self.written[which].append(event)

    @rule(target=recorders, which=recorders)
    def branch(self, which: int) -> int:
        """Another goes on from here."""
        number = len(self.open)
        begin = beginning(str(number))
        shown = self.shown.setdefault(number, [])

        async def branched() -> Recorder:
            return self.open[which].branch(self.folder / f"{number}", begin=begin, watcher=shown.append)

        self.open[number] = anyio.run(branched)
        self.written[number] = [begin, *self.written[which][1:]]
        return number

    @rule(which=recorders)
    def number_passes(self, which: int) -> None:
        """Numbers go up, in a branch from where it began."""
        first = self.open[which].next_pass_number()
        assert self.open[which].next_pass_number() == first + 1

    @invariant()
    def each_holds_its_own(self) -> None:
        """On disk at once, in order."""
        for number, events in self.written.items():
            assert list(read_events(self.folder / f"{number}")) == events

    @invariant()
    def watchers_see_what_is_new(self) -> None:
        """Whoever watches a branch is not shown what came before it."""
        for number, shown in self.shown.items():
            assert shown == self.written[number][len(self.written[number]) - len(shown) :]

    def teardown(self) -> None:
        """Leave nothing."""
        for recorder in self.open.values():
            recorder.close()
        shutil.rmtree(self.folder)


TestBranching = Branching.TestCase
TestBranching.settings = settings(tries(15), stateful_step_count=15)


@pytest.mark.anyio
async def test_whoever_watches_is_shown_only_what_is_stored(tmp_path: Path) -> None:
    """A watcher that reads the history finds what it is told of."""
    path = tmp_path / "history.jsonl"
    found: list[list[Event]] = []
    recorder = Recorder(path, watcher=lambda _: found.append(list(read_events(path))))
    recorder.record(beginning("c"))
    recorder.record(StepFinished(t=1, step="1", seconds=1))
    recorder.close()
    assert [len(each) for each in found] == [1, 2]


@pytest.mark.anyio
async def test_a_cells_clock_begins_with_it_and_goes_on_in_a_branch(tmp_path: Path) -> None:
    """What was recorded before a branch keeps its place in time."""
    recorder = Recorder(tmp_path / "a", watcher=lambda _: None)
    recorder.record(beginning("a"))
    await anyio.sleep(5)
    branch = recorder.branch(tmp_path / "b", begin=beginning("b"), watcher=lambda _: None)
    assert recorder.now() == pytest.approx(5, abs=0.01)
    assert branch.now() == pytest.approx(5, abs=0.01)
    recorder.close()
    branch.close()


@pytest.mark.anyio
async def test_a_history_is_never_written_over(tmp_path: Path) -> None:
    """What an earlier attempt left is set aside by whoever runs the cell, or it stays."""
    (tmp_path / "history.jsonl").touch()
    with pytest.raises(StorageError):
        Recorder(tmp_path / "history.jsonl", watcher=lambda _: None)
