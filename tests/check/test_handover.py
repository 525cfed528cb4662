"""Whether a server that served a cell answers as when it was fresh."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check.handover import judge_handover
from harness.check.result import Verdict
from harness.check.verdict import judge
from harness.history.appending import tell_of_damage
from harness.history.layout import HISTORY_FILE
from harness.history.recording import load_history
from harness.history.store import HistoryWriter
from tests.check.stories import Change, Story, failing, garbage, shifted


def fresh() -> Story:
    """A cell that found its server fresh and was clean."""
    return Story(held_out=0).baseline().null().cycle().finish()


def later(*, baseline: Change | None = None, null: Change | None = None, prompts: int = 4) -> Story:
    """A cell that has asked its first questions, its first prompt's answers changed."""
    story = Story(held_out=0, prompts=prompts)
    name = story.names[0]
    return story.baseline({name: baseline} if baseline else None).null({name: null} if null else None)


def test_a_server_that_says_the_same_is_whole() -> None:
    """Bit by bit, or but for the order of float32 additions."""
    first = fresh().recording()
    assert judge_handover(first, later().recording()).whole
    assert judge_handover(first, later(null=shifted(by=5e-4)).recording()).whole


@pytest.mark.parametrize("change", [garbage(20), shifted(by=0.5)])
def test_one_late_token_or_probability_is_damage(change: Change) -> None:
    """In the baseline, where the next cell would take it for sound, and in what is asked again after it."""
    first = fresh().recording()
    for story in (later(baseline=change, null=change), later(null=change)):
        seen = judge_handover(first, story.recording())
        assert (seen.whole, seen.damaged) == (False, True)
        assert "prompts changed" in seen.because


def test_answers_that_fail_are_not_those_of_a_fresh_server() -> None:
    """A server that refuses what it answered is not whole."""
    seen = judge_handover(fresh().recording(), later(null=failing("http", 500)).recording())
    assert not seen.whole


def test_other_checksums_of_weights_are_damage() -> None:
    """Whatever the answers say."""
    first, second = fresh().checksums({"w": "1"}).recording(), later().checksums({"w": "2"}).recording()
    assert judge_handover(first, second).damaged


def test_a_prefix_cache_that_no_longer_hits_shows_nothing() -> None:
    """Its answers are right, but blocks that are never read could be anything."""
    story = Story(held_out=0, prefix_caching=False).baseline().null()
    seen = judge_handover(fresh().recording(), story.recording())
    assert (seen.whole, seen.damaged) == (False, False)
    assert "no longer come from the prefix cache" in seen.because


def test_other_questions_tell_nothing() -> None:
    """Neither other prompts nor other passes can be held against what a fresh server said."""
    first = fresh().recording()
    for story in (later(prompts=5), Story(held_out=0).baseline()):
        seen = judge_handover(first, story.recording())
        assert (seen.whole, seen.damaged) == (False, False)


def test_where_answers_are_noisy_the_fresh_cells_own_noise_decides() -> None:
    """One null pass says too little about noise to call a server whole or damaged."""
    first = Story(held_out=0)
    noisy = dict.fromkeys(first.names, shifted(by=0.02))
    first.baseline().null(noisy).cycle()
    seen = judge_handover(first.recording(), later(null=shifted(by=0.015)).recording())
    assert (seen.whole, seen.damaged) == (False, False)


def test_the_cell_before_is_judged_by_what_it_left(tmp_path: Path) -> None:
    """What the next cell was answered stands in its history: it is corrupt, with a witness."""
    first, path = fresh(), tmp_path / HISTORY_FILE
    with HistoryWriter(path) as writer:
        for event in first.events:
            writer.write(event)
    assert judge(load_history(path)).verdict is Verdict.CLEAN
    damaged = later(null=garbage(3)).recording()
    tell_of_damage(path, first.recording(), damaged, because="other tokens")
    told = load_history(path)
    assert told.finished
    assert told.left_damaged is not None
    result = judge(told)
    assert result.verdict is Verdict.CORRUPT
    assert result.witness is not None


def test_a_cell_that_left_damage_is_never_clean(tmp_path: Path) -> None:
    """Also where its own noise explains each of the answers."""
    first, path = fresh(), tmp_path / HISTORY_FILE
    with HistoryWriter(path) as writer:
        for event in first.events:
            writer.write(event)
    tell_of_damage(path, first.recording(), later().recording(), because="its weights have other checksums")
    result = judge(load_history(path))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "other checksums" in result.reason
