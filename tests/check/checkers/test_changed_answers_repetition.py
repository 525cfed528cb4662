"""Repetition, measured on token ids beside the same prompt's baseline."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.check.answer_pair import Loop, find_loop, repeated_ngrams
from harness.check.result import Finding, Strength
from harness.history.passes import Answer
from tests.check.stories import Change, Story, clean_story, garbage, loop, stop_after, with_tokens

ids = st.lists(st.integers(0, 5), max_size=40).map(tuple)


def longest_loop_by_definition(tokens: tuple[int, ...]) -> int:
    """Length of the longest stretch that is at least three copies of a pattern, found by trying them all."""
    return max(
        (
            end - start
            for start in range(len(tokens))
            for end in range(start + 3, len(tokens) + 1)
            for period in range(1, (end - start) // 3 + 1)
            if all(tokens[i] == tokens[i - period] for i in range(start + period, end))
        ),
        default=0,
    )


@given(ids)
def test_the_longest_loop_is_found(tokens: tuple[int, ...]) -> None:
    """The quick search finds as long a loop as trying every stretch does, and it is where it says."""
    found = find_loop(tokens)
    assert (found.length if found else 0) == longest_loop_by_definition(tokens)
    if found:
        stretch = tokens[found.start : found.start + found.length]
        assert len(stretch) == found.length
        assert stretch[found.period :] == stretch[: -found.period]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((), None),
        ((1,), None),
        ((1, 1), None),
        ((1, 1, 1), Loop(period=1, start=0, length=3)),
        ((1, 2, 1, 2), None),
        ((9, 1, 2, 1, 2, 1, 2, 9), Loop(period=2, start=1, length=6)),
        ((9, 1, 2, 1, 2, 1, 2, 1), Loop(period=2, start=1, length=7)),
        ((5, 5, 5, 5, 5, 5), Loop(period=1, start=0, length=6)),
        ((1, 1, 1, 2, 3, 3, 3, 3), Loop(period=1, start=4, length=4)),
    ],
)
def test_loops_by_example(tokens: tuple[int, ...], expected: Loop | None) -> None:
    """Three copies make a loop, the shortest period names it, the longest stretch wins."""
    assert find_loop(tokens) == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((), 0.0),
        ((1, 2, 3, 4), 0.0),
        ((1, 2, 3, 4, 5), 0.0),
        ((1, 1, 1, 1, 1), 0.5),
        ((1, 2, 3, 4, 1, 2, 3, 4), 0.2),
        ((7,) * 23, 0.95),
    ],
)
def test_repeated_ngrams_by_example(tokens: tuple[int, ...], expected: float) -> None:
    """The measure is the fraction of four-grams that occurred before; too short an answer has none."""
    assert repeated_ngrams(tokens) == pytest.approx(expected)


def finding_after(change: Change, *, baseline: Change | None = None) -> Finding | None:
    """The repetition finding about p0's warm answer, if there is one."""
    usual = {"p0": baseline} if baseline else {}
    story = Story().baseline(usual).null(usual).sleep().wake().probe(1, warm={"p0": change}, cold=usual)
    story.asked_again({"p0": change})
    findings = story.findings("repetition")
    assert len(findings) <= 1
    return findings[0] if findings else None


def test_a_healthy_story_has_no_finding() -> None:
    """Nothing repeats more than before when nothing changed."""
    assert clean_story().findings("repetition") == []


def test_a_new_loop_is_found() -> None:
    """An answer that falls into a loop is told with its period and extent."""
    finding = finding_after(loop(4, period=2))
    assert finding is not None
    assert (
        finding.message
        == "p0, cycle 1, warm: repeats 2 tokens over 20 of 24 tokens; the baseline loops over 0"
    )
    assert finding.evidence == {
        "window": 24,
        "period": 2,
        "coverage": 0.8333,
        "baseline_coverage": 0.0,
        "repeated_ngrams": 0.7143,
        "baseline_repeated_ngrams": 0.0,
    }
    assert (finding.checker, finding.prompt, finding.cycle) == ("repetition", "p0", 1)
    assert finding.strength is Strength.PROOF


def test_one_token_is_called_one_token() -> None:
    """The commonest loop reads naturally."""
    finding = finding_after(loop(4))
    assert finding is not None
    assert "repeats one token over 20 of 24 tokens" in finding.message


def test_a_loop_that_was_there_before_is_no_finding() -> None:
    """Some prompts repeat by nature: only the difference from their own baseline counts."""
    assert finding_after(loop(5), baseline=loop(4)) is None


def test_a_lost_repetition_is_found() -> None:
    """Garbage repeats less than sound text of a model that likes to repeat: the test has two sides."""
    finding = finding_after(garbage(), baseline=loop(4))
    assert finding is not None
    assert finding.message == (
        "p0, cycle 1, warm: repeats itself less than its baseline: 0% of the 4-grams in the first 24 tokens "
        "are repeats, 76% in the baseline"
    )
    assert finding.evidence["period"] is None


def test_scattered_repeats_are_found_without_a_loop() -> None:
    """A phrase that comes back now and then, never three times in a row, still raises repetition."""

    def change(answer: Answer) -> Answer:
        phrase, rest = (11, 12, 13, 14, 15, 16), (21, 22, 23, 24)
        return with_tokens(answer, (*phrase, *phrase, rest[0], *phrase, *rest[1:], 30, 31))

    finding = finding_after(change)
    assert finding is not None
    assert "repeats itself more than its baseline" in finding.message


def test_a_very_short_answer_is_not_measured() -> None:
    """Three equal tokens out of four are no loop worth a word."""
    assert finding_after(lambda answer: with_tokens(answer, (5,) * 11, finish_reason="stop")) is None
    assert finding_after(lambda answer: with_tokens(answer, (5,) * 12, finish_reason="stop")) is not None


def test_windows_are_equally_long() -> None:
    """A short answer is measured beside the beginning of its baseline: longer text repeats more by nature."""

    def late_loop(answer: Answer) -> Answer:
        return loop(13)(answer)

    assert finding_after(stop_after(13), baseline=late_loop) is None


def test_it_is_a_hint_where_noise_was_not_measured() -> None:
    """Without a null transition one loop proves nothing."""
    [finding] = Story().baseline().cycle(warm={"p0": loop(4)}).findings("repetition")
    assert finding.strength is Strength.HINT


def test_a_longer_loop_than_the_baselines_is_told() -> None:
    """The sentence says how far the baseline looped itself, and the evidence has both coverages."""
    finding = finding_after(loop(4), baseline=loop(14))
    assert finding is not None
    assert finding.message == (
        "p0, cycle 1, warm: repeats one token over 20 of 24 tokens; the baseline loops over 10"
    )
    assert (finding.evidence["coverage"], finding.evidence["baseline_coverage"]) == (0.8333, 0.4167)


def test_a_finding_leads_to_its_pass() -> None:
    """Whoever reads it finds the answer it is about."""
    story = Story().baseline().null().cycle(3, cold={"p1": loop(4)})
    [finding] = story.findings("repetition")
    assert (finding.pass_number, finding.cycle) == (story.recording().passes[-1].number, 3)


@pytest.mark.parametrize(("start", "found"), [(18, True), (19, False)])
def test_a_quarter_of_the_answer_is_notable(*, start: int, found: bool) -> None:
    """A loop over six of 24 tokens is worth a sentence, one over five is not."""
    assert (finding_after(loop(start)) is not None) is found


def test_measures_are_told_to_four_digits() -> None:
    """Enough to compare, and the same on every machine."""
    finding = finding_after(garbage(), baseline=loop(5))
    assert finding is not None
    assert finding.evidence["baseline_repeated_ngrams"] == 0.7143
    assert finding.evidence["baseline_coverage"] == 0.7917
    assert finding.evidence["window"] == 24
    assert (finding.evidence["coverage"], finding.evidence["repeated_ngrams"]) == (0.0, 0.0)
