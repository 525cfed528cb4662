"""Runs that grow by one check after the other."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from harness.history.layout import CELLS_FOLDER, cell_folder
from harness.history.run_description import DescribedCell, RunDescription, read_description
from harness.runs.growing import GrowingRun
from tests.trying import tries


def a_run(directory: Path, *, keep: int) -> GrowingRun:
    """One that has just begun."""
    run = GrowingRun(directory=directory, description=RunDescription(run="run", cells={}), keep=keep)
    run.write()
    return run


@tries(40)
@given(st.lists(st.booleans(), max_size=8), st.integers(0, 4))
def test_sound_checks_make_room_oldest_first(sound: list[bool], keep: int) -> None:
    """What is removed was sound and is older than all the sound ones that stay, of which there are enough."""
    with TemporaryDirectory() as folder:
        run = a_run(Path(folder), keep=keep)
        for number, is_sound in enumerate(sound, start=1):
            cell_folder(run.directory, f"check-{number}").mkdir(parents=True)
            run.add(f"check-{number}", DescribedCell(), number=number)
            if is_sound:
                run.note_sound(f"check-{number}")
        told = {int(cell.partition("-")[2]) for cell in read_description(run.directory).cells}
        kept = {int(path.name.partition("-")[2]) for path in (run.directory / CELLS_FOLDER).glob("*")}
    all_sound = [number for number, is_sound in enumerate(sound, start=1) if is_sound]
    assert told == kept == set(range(1, len(sound) + 1)) - set(all_sound[: max(0, len(all_sound) - keep)])


def test_a_check_under_way_is_no_cell_of_a_run_that_has_ended(tmp_path: Path) -> None:
    """What it recorded is removed; what is a cell stays."""
    run = a_run(tmp_path, keep=1)
    for name in ("check-1", "check-2"):
        cell_folder(tmp_path, name).mkdir(parents=True)
    run.add("check-1", DescribedCell(), number=1)
    run.finish(interrupted=True)
    assert [path.name for path in (tmp_path / CELLS_FOLDER).iterdir()] == ["check-1"]
    assert read_description(tmp_path).interrupted
