"""A history as checkers see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HistoryError
from harness.history.events import CellFinished, Event
from harness.history.layout import HISTORY_FILE
from harness.history.passes import CacheCondition, Control, Role
from harness.history.recording import gather, load_recording
from harness.history.store import HistoryWriter
from tests.check.stories import Story, clean_story, garbage
from tests.history.strategies import cell_started


def stored(directory: Path, told: list[Event]) -> Path:
    """Write a cell's history and return its directory."""
    with HistoryWriter(directory / HISTORY_FILE) as writer:
        for event in told:
            writer.write(event)
    return directory


def test_a_stored_recording_is_the_one_that_was_told(tmp_path: Path) -> None:
    """Through the disk and back nothing is lost or changed."""
    story = Story().baseline().null().checksums({"a": "1"}).cycle(1, warm={"p0": garbage()})
    story.control(Control.FRESH_SALT).finish()
    assert load_recording(stored(tmp_path, story.events)) == story.recording()


def test_passes_hold_their_own_answers() -> None:
    """An answer belongs to the pass it names, whenever it arrived."""
    story = clean_story()
    late = next(i for i, event in enumerate(story.events) if event.kind == "answer")
    story.events.append(story.events.pop(late))
    recording = story.recording()
    assert [len(each.answers) for each in recording.passes] == [4, 4, 5, 4, 4, 4, 4, 4, 4]
    assert all(
        answer.pass_number == each.number and answer.prompt == prompt
        for each in recording.passes
        for prompt, answer in each.answers.items()
    )


def test_passes_are_found_by_role() -> None:
    """Baseline, null and judged passes are kept apart, in order."""
    recording = clean_story(cycles=1).recording()
    caches = {role: [each.start.cache for each in recording.passes_of(role)] for role in Role}
    warm, rehit, cold = CacheCondition.WARM, CacheCondition.REHIT, CacheCondition.COLD
    assert caches == {
        Role.BASELINE: [warm, rehit, cold],
        Role.NULL: [warm, cold],
        Role.AFTER: [warm, cold],
        Role.CONTROL: [],
    }


def test_prompts_and_their_limits_are_known() -> None:
    """What the tokenizer said is part of the recording."""
    recording = clean_story().recording()
    assert list(recording.prompts) == ["p0", "p1", "p2", "p3", "p4"]
    assert [prompt.id for prompt in recording.prompts.values() if prompt.held_out] == ["p4"]
    assert (recording.end_of_sequence_ids, recording.vocabulary_size, recording.block_size) == (
        (2,),
        1000,
        16,
    )


def test_the_end_is_known() -> None:
    """A recording knows whether it ran to its end, failed, or was cut off."""
    story = clean_story()
    cut = story.recording()
    assert (cut.finished, cut.failure) == (False, None)
    failed = gather([*story.events, *Story().fail().events[-1:]])
    assert failed.failure is not None
    assert not failed.finished
    assert gather([*story.events, CellFinished(t=99)]).finished


def test_steps_are_found_by_their_path() -> None:
    """Every step can be looked up by the path its events name."""
    recording = clean_story(cycles=1).recording()
    assert [step.action for step in recording.steps] == [
        "probe",
        "null_transition",
        "sleep",
        "wake_up",
        "probe",
    ]
    assert recording.action_of_step["3"].action == "sleep"
    assert set(recording.step_ends) == {"3"}


def test_an_empty_recording_has_nothing() -> None:
    """A history of one event has no server, no prompts and no passes."""
    recording = gather([cell_started()])
    assert recording.server is None
    assert recording.prompts == {}
    assert recording.passes == ()
    assert not recording.finished


@pytest.mark.parametrize("told", [[], [CellFinished(t=0)]])
def test_a_history_begins_with_its_cell(tmp_path: Path, told: list[Event]) -> None:
    """Without the first event nothing else can be understood."""
    with pytest.raises(ValueError, match="begins with a cell_started event"):
        gather(told)
    with pytest.raises(HistoryError):
        load_recording(stored(tmp_path, told))
