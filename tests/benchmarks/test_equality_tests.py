"""Tests of "same model?" see what their papers say they see, on answers whose every shift is known."""

from __future__ import annotations

import pytest

from harness.history.recording import Recording
from tests.benchmarks.equality_tests import (
    ALPHA,
    BORDER_INPUTS,
    EQUALITY_TESTS,
    NOTHING,
    OPINIONS,
    strata,
)
from tests.check.stories import Change, Story, failing, flip, garbage, shifted

PROMPTS = 8
OF_TOKENS = {"border inputs (B3IT)", "MMD, Hamming kernel"}


def after(change: Change | None = None) -> Recording:
    """A cell of eight prompts, with four null transitions, all of whose later answers change alike."""
    names = Story(prompts=PROMPTS).names
    changes = dict.fromkeys(names, change) if change else {}
    story = Story(prompts=PROMPTS, held_out=0, prefix_caching=False).baseline().null(passes=4)
    for cycle in (1, 2, 3):
        story.cycle(cycle, warm=changes, cold=changes)
    return story.finish().recording()


def alarmed(recording: Recording) -> set[str]:
    """Which tests call the model another one."""
    return {name for name, opinion in OPINIONS.items() if opinion(recording).alarm}


def test_equal_answers_alarm_nobody() -> None:
    """Without any difference no arrangement of the answers is rarer than another."""
    assert alarmed(after()) == set()


def test_other_first_tokens_alarm_those_that_look_at_tokens() -> None:
    """Every answer begins with another token."""
    assert alarmed(after(flip(0))) >= OF_TOKENS | {"log-probability tracking"}


def test_log_probabilities_of_the_first_token_alarm_only_who_looks_at_them() -> None:
    """Greedy tokens stay as they were."""
    found = alarmed(after(shifted(0.3, 0)))
    assert "log-probability tracking" in found
    assert not found & OF_TOKENS


def test_late_damage_escapes_who_looks_at_first_tokens() -> None:
    """From the tenth token on everything is another."""
    found = alarmed(after(garbage(10)))
    assert "MMD, Hamming kernel" in found
    assert not found & {"log-probability tracking", "border inputs (B3IT)"}


def test_ranks_are_held_against_the_uniform_distribution() -> None:
    """Answers that are all less likely than every null answer rank first everywhere."""
    assert EQUALITY_TESTS["rank uniformity (RUT)"](after(shifted(0.3, 0))).p_value <= ALPHA


def test_tokens_are_counted_as_they_are_asked_for() -> None:
    """One a request, one a request of border inputs, every token, and every token of an answer a prompt."""
    recording = after()
    found = strata(recording)
    answers = sum(len(each.after) for each in found)
    counted = {name: test(recording).tokens for name, test in EQUALITY_TESTS.items()}
    assert counted["log-probability tracking"] == answers
    assert counted["border inputs (B3IT)"] == answers * BORDER_INPUTS // len(found)
    assert counted["MMD, Hamming kernel"] > counted["rank uniformity (RUT)"] > answers / 2


@pytest.mark.parametrize("name", EQUALITY_TESTS)
def test_without_answers_nothing_is_measured(name: str) -> None:
    """A cell that broke off before its transition says nothing."""
    assert EQUALITY_TESTS[name](Story().baseline().recording()) == NOTHING


@pytest.mark.parametrize("name", OPINIONS)
def test_a_request_without_an_answer_alarms(name: str) -> None:
    """Every comparator fails on it."""
    story = Story().baseline().null().cycle(1, warm={"p0": failing()})
    assert OPINIONS[name](story.finish().recording()).alarm
