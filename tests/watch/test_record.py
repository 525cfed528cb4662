"""The run directory of a watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.history.events import ServerReady
from harness.history.layout import HISTORY_FILE, cell_folder
from harness.history.run_description import read_description
from harness.runs.growing import baseline_folder
from harness.runs.options import RunOptions
from harness.watch.canaries import Canaries
from harness.watch.record import (
    WatchRecord,
    begin,
    fitting_baseline,
    named_baseline,
)

ENDPOINT = "http://host"
READY = ServerReady(t=0, runtime="attached", command="", vllm_version="0.32.0", boot_seconds=0)
CANARIES = Canaries(count=2, max_tokens=4)


def a_record(folder: Path, *, keep: int = 2, **known: object) -> WatchRecord:
    """One of a watch that has begun, with a baseline."""
    folder.mkdir()
    record = begin(folder, RunOptions(endpoint=ENDPOINT), keep=keep, command=("sleepwake", "watch"))
    record.note(**{"model": "m", "started": 1.0, "baselines": 1, **known})
    history = baseline_folder(folder, record.watched.baselines) / HISTORY_FILE
    history.parent.mkdir()
    history.touch()
    return record


def test_every_check_is_judged_with_its_own_part(tmp_path: Path) -> None:
    """The k-th cell is judged as one of k * (k + 1), whatever has become of the others."""
    record = a_record(tmp_path / "run", keep=1)
    for number, is_sound in enumerate((False, True, True), start=1):
        cell = CANARIES.cell(f"wake-{number}")
        cell_folder(record.directory, cell.id).mkdir(parents=True)
        record.add_check(cell, READY, number=number, is_sound=is_sound)
    told = read_description(record.directory)
    assert {cell: each.one_of for cell, each in told.cells.items()} == {"watch.wake-1": 2, "watch.wake-3": 12}
    assert told.servers.keys() == told.cells.keys()
    assert told.watched is not None
    assert told.watched.checks == 3
    assert not cell_folder(record.directory, "watch.wake-2").exists()


def test_a_watch_that_ended_says_how(tmp_path: Path) -> None:
    """Interrupted or not, and when."""
    record = a_record(tmp_path / "run")
    assert read_description(record.directory).finished_at is None
    record.finish(interrupted=True)
    told = read_description(record.directory)
    assert told.finished_at is not None
    assert told.interrupted


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({}, True),
        ({"started": 2.0}, False),
        ({"started": None}, False),
        ({"model": "other"}, False),
        ({"weight_version": "2"}, False),
        ({"endpoint": "http://other"}, False),
    ],
    ids=str,
)
def test_only_a_baseline_of_the_same_process_is_taken_over_unasked(
    tmp_path: Path,
    asked: dict[str, object],
    fits: bool,  # noqa: FBT001 - a column
) -> None:
    """The same address, model, weights and start; the newest of several."""
    for name in ("2026-01-01", "2026-01-02"):
        a_record(tmp_path / name)
    wanted = {"endpoint": ENDPOINT, "model": "m", "started": 1.0, "weight_version": None, **asked}
    found = fitting_baseline(tmp_path, **wanted)  # type: ignore[arg-type]
    assert (found is not None) is fits
    if found is not None:
        assert found.history == tmp_path / "2026-01-02" / "baseline-1" / HISTORY_FILE


def test_a_named_baseline_is_one_of_this_server(tmp_path: Path) -> None:
    """That of another address, or a run without any, is refused."""
    a_record(tmp_path / "run")
    assert named_baseline(tmp_path / "run", endpoint=ENDPOINT).watched.model == "m"
    with pytest.raises(UsageError, match="its baseline is of http://host"):
        named_baseline(tmp_path / "run", endpoint="http://other")
    a_record(tmp_path / "without", baselines=0)
    with pytest.raises(UsageError, match="has no baseline"):
        named_baseline(tmp_path / "without", endpoint=ENDPOINT)
