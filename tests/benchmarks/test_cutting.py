"""A cut recording is what the engine would have given with a lower limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.check import judge
from harness.check.checkers import protocol
from harness.check.evidence import Evidence
from harness.check.result import Verdict
from harness.history.passes import Method
from harness.history.recording import Recording
from tests.benchmarks.cutting import cut, cut_answer
from tests.check.simulation import Setup, simulate
from tests.check.stories import Story, answer_to, failing, garbage, prompt

WHOLE = 24
"""The limit that stories have."""

ALL_METHODS = Story(methods=(Method.SCORED, Method.SAMPLED)).baseline().null().cycle().finish().recording()


def told(recording: Recording) -> list[int]:
    """How many tokens each answer has."""
    return [len(answer.token_ids) for each in recording.passes for answer in each.answers.values()]


@given(st.integers(1, WHOLE + 2))
def test_a_cut_recording_contradicts_itself_nowhere(tokens: int) -> None:
    """Counts, endings and log-probabilities fit the tokens, and the verdict on a healthy engine holds."""
    shorter = cut(ALL_METHODS, tokens=tokens)
    evidence = Evidence(shorter)

    assert list(protocol.check(evidence)) == []
    assert protocol.baseline_violations(evidence) == ()
    assert judge(shorter).verdict is Verdict.CLEAN
    assert max(told(shorter)) == shorter.cell.max_tokens == min(tokens, WHOLE)


@given(st.integers(1, WHOLE), st.integers(1, WHOLE))
def test_cutting_twice_is_cutting_once(first: int, second: int) -> None:
    """What is left depends on the lower limit alone."""
    twice = cut(cut(ALL_METHODS, tokens=first), tokens=second)
    once = cut(ALL_METHODS, tokens=min(first, second))

    assert [each.start for each in twice.passes] == [each.start for each in once.passes]
    for left, right in zip(twice.passes, once.passes, strict=True):
        for name, answer in left.answers.items():
            other = right.answers[name]
            assert answer.seconds == pytest.approx(other.seconds)
            assert answer.model_copy(update={"seconds": 0.0}) == other.model_copy(update={"seconds": 0.0})


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    """A recording cut to more than it has is the same recording."""
    assert cut(ALL_METHODS, tokens=WHOLE) == ALL_METHODS


def test_an_answer_that_ends_before_the_cut_stays_whole() -> None:
    """It would have ended there anyhow."""
    ends_by_itself = answer_to(prompt(2), max_tokens=WHOLE)
    assert cut_answer(ends_by_itself, tokens=12) is ends_by_itself
    assert cut_answer(ends_by_itself, tokens=11).finish_reason == "length"


def test_a_failed_request_stays_failed() -> None:
    """There is nothing to cut."""
    failed = failing()(answer_to(prompt(0), max_tokens=WHOLE))
    assert cut_answer(failed, tokens=4) is failed


def test_a_token_takes_as_long_as_before() -> None:
    """The time shrinks with the tokens, so that the speed is the same."""
    answer = answer_to(prompt(0), max_tokens=WHOLE)
    assert cut_answer(answer, tokens=6).seconds == pytest.approx(answer.seconds / 4)


def test_damage_behind_the_cut_is_gone() -> None:
    """Garbage from the ninth token on is seen in nine tokens and not in eight."""
    recording = (
        Story().baseline().null().cycle(1, warm={"p0": garbage(8), "p1": garbage(8)}).finish().recording()
    )
    assert judge(cut(recording, tokens=9)).verdict is Verdict.CORRUPT
    assert judge(cut(recording, tokens=8)).verdict is Verdict.CLEAN


def test_a_noisy_recording_stays_consistent() -> None:
    """The same holds where answers differ."""
    evidence = Evidence(cut(simulate(1, Setup(prompts=8, tokens=32, cycles=1)), tokens=16))
    assert list(protocol.check(evidence)) == []
    assert protocol.baseline_violations(evidence) == ()
