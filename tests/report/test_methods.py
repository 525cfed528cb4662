"""Answers that were scored or sampled are called that, wherever passes are told."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.check.evidence import Evidence
from harness.history.passes import Method
from harness.report.changes import agreements, shapes, spreads
from harness.report.progress import Progress
from harness.report.timeline import moments
from harness.report.words import comparison_sentence, method_sentences
from tests.check.stories import Story, clean_story, garbage, shifted


@pytest.fixture
def evidence() -> Evidence:
    """A cell asked by every method, whose scored and sampled answers changed."""
    story = Story(methods=(Method.SCORED, Method.SAMPLED)).baseline().null().sleep().wake()
    others = {Method.SCORED: {"p0": shifted(0.5)}, Method.SAMPLED: {"p1": garbage(2)}}
    return story.probe(others=others).evidence()


def test_what_was_compared_names_every_method(evidence: Evidence) -> None:
    """Scored answers are compared with scored ones, and the page says what that means."""
    sentence = comparison_sentence(evidence.recording)
    assert sentence.endswith("warm with warm, cold with cold, scored with scored, sampled with sampled.")
    scored, sampled = method_sentences(evidence.recording)
    assert scored.startswith("Scored: the baseline's own tokens")
    assert sampled.startswith("Sampled: at temperature 1")


def test_what_only_generates_needs_no_explanation() -> None:
    """A scenario without other methods says nothing of them."""
    assert method_sentences(clean_story().recording()) == []


def test_scored_answers_have_no_tokens_of_their_own(evidence: Evidence) -> None:
    """The heat map, the plots and the count of other tokens leave them out; their shift is told."""
    scored = {each.number for each in evidence.recording.passes if each.start.method is Method.SCORED}
    assert scored.isdisjoint(field.pass_number for field in agreements(evidence))
    assert [shape.tokens for shape in shapes(evidence) if shape.prompt == "p0"] == [24, 24]
    rows = {spread.name: spread for spread in spreads(evidence)}
    assert rows["after the transitions, scored"].different is None
    assert rows["after the transitions, scored"].largest_shift == pytest.approx(0.5)
    assert rows["after the transitions, sampled"].different == 1
    assert rows["after the transitions"].different == 0


def test_timeline_tells_a_scored_pass_by_its_shift(evidence: Evidence) -> None:
    """It reads no cache and decodes nothing: what it shows is log-probabilities."""
    seen = {row.what: row.seen for row in moments(evidence)}
    assert seen["pass 8, null transition, scored: 4 answers"] == "log-probabilities as in the baseline"
    assert seen["pass 12, cycle 1, scored: 4 answers"] == "log-probabilities shifted by up to 0.5 nat"
    assert seen["pass 13, cycle 1, sampled: 4 answers"] == "3 of 4 as in the baseline, nothing from the cache"


def test_a_server_that_tells_no_cache_reads_is_not_said_to_have_none() -> None:
    """Unknown is not nothing."""
    story = Story(tells_cached_tokens=False).baseline()
    assert moments(story.evidence())[-1].seen == "cache reads not reported"


def test_progress_names_the_method(evidence: Evidence) -> None:
    """The live line says scored, not the cache condition it happens to have."""
    screen = io.StringIO()
    with Progress(Console(file=screen, force_terminal=True, width=100), cells=1) as progress:
        progress.show("cell", evidence.recording.passes[-1].start)
    assert "after, sampled" in screen.getvalue()
