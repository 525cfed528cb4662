"""All comparators rule on the same recording, and the truth stands beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check.result import Verdict
from harness.history.layout import HISTORY_FILE
from harness.history.recording import Recording
from harness.history.store import HistoryWriter
from tests.benchmarks.contest import OTHERS, OURS, Outcome, Score, score, score_file
from tests.benchmarks.equality_tests import OPINIONS
from tests.check.stories import Change, Story, clean_story, garbage, scaled

EVERYBODY = {OURS, *OTHERS}
OF_MANY_ANSWERS = set(OPINIONS)
"""Tests that a cell with one null pass and one cycle is too short for."""


def ruined(change: Change, *, fault: str | None = "lose-weights") -> Recording:
    """A cell in which every answer after the sleep changes."""
    changes = {f"p{i}": change for i in range(4)}
    return faulty(Story().baseline().null().cycle(1, warm=changes, cold=changes), fault=fault)


def faulty(story: Story, *, fault: str | None) -> Recording:
    """The same cell, recorded on an engine in which ``fault`` was planted."""
    story.events[0] = story.events[0].model_copy(update={"fault": fault})
    return story.finish().recording()


def scored(recording: Recording) -> Score:
    """Score a recording under some name."""
    return score(recording, engine="float32-c1", name="a")


def test_a_healthy_engine_alarms_nobody() -> None:
    """Everybody is silent, and there are no tokens to ask for."""
    told = scored(clean_story().finish().recording())

    assert told.fault is None
    assert {ruling.outcome for ruling in told.rulings.values()} == {Outcome.SILENCE}
    assert {ruling.tokens_needed for ruling in told.rulings.values()} == {None}


def test_a_ruined_engine_alarms_everybody_from_four_tokens_on() -> None:
    """The shortest cut suffices: four tokens of eight answers, or of the only one that is looked at."""
    told = scored(ruined(garbage()))

    assert set(told.rulings) == EVERYBODY
    alarmed = {who for who, ruling in told.rulings.items() if ruling.outcome is Outcome.ALARM}
    assert alarmed >= EVERYBODY - OF_MANY_ANSWERS
    assert told.rulings[OURS].tokens_needed == told.rulings["exact tokens"].tokens_needed == 8 * 4
    assert told.rulings["vLLM's sleep test"].tokens_needed == 4


def test_late_damage_needs_more_tokens() -> None:
    """Garbage from the tenth token on is first seen in sixteen; the one that ends at twelve has no more."""
    told = scored(ruined(garbage(10)))

    assert told.rulings["vLLM's sleep test"].outcome is Outcome.SILENCE
    assert told.rulings["vLLM's sleep test"].tokens_needed is None
    assert told.rulings["exact tokens"].tokens_needed == 2 * (3 * 16 + 12)


def test_where_no_cut_alarms_all_tokens_are_needed() -> None:
    """Damage in the very last token of answers of 24."""
    told = scored(ruined(garbage(23)))
    assert told.rulings["exact tokens"].tokens_needed == told.rulings["exact tokens"].tokens


def test_ours_sees_what_changes_no_token() -> None:
    """Logits scaled by 0.98 leave every token and every likelihood order as they were."""
    told = scored(ruined(scaled(0.98)))
    assert [who for who, each in told.rulings.items() if each.outcome is Outcome.ALARM] == [OURS]


def test_false_alarms_are_not_asked_how_many_tokens_they_need() -> None:
    """Only detected faults count there."""
    told = scored(ruined(garbage(), fault=None))
    assert {ruling.tokens_needed for ruling in told.rulings.values()} == {None}


@pytest.mark.parametrize(
    ("recording", "verdict"),
    [
        (Story().baseline().null().cycle().recording(), Verdict.INCONCLUSIVE),
        (Story().baseline().null().cycle().fail().recording(), None),
    ],
    ids=["cut off", "broken off"],
)
def test_what_ours_cannot_tell_is_neither_alarm_nor_silence(
    recording: Recording, verdict: Verdict | None
) -> None:
    """Inconclusive cells, and cells without a verdict, are counted apart."""
    told = scored(recording)
    assert told.result.verdict is verdict
    assert told.rulings[OURS].outcome is Outcome.INCONCLUSIVE


def test_a_recording_is_named_by_its_place(tmp_path: Path) -> None:
    """``<engine>/cells/<name>/history.jsonl``."""
    path = tmp_path / "bfloat16-c16" / "cells" / "clean-7" / HISTORY_FILE
    with HistoryWriter(path) as history:
        for event in clean_story().finish().events:
            history.write(event)
    told = score_file(path)
    assert (told.engine, told.name, told.concurrency) == ("bfloat16-c16", "clean-7", 4)
