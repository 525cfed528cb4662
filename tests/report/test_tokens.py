"""The witness token by token."""

from __future__ import annotations

import pytest

from harness.check.result import Witness
from harness.report.tokens import answer_strip, likeliest, token_strip
from tests.report import examples


@pytest.fixture
def witness() -> Witness:
    """The example's witness: 27 tokens before, 32 after, one of them in common."""
    found = examples.corrupt_cell().witness
    assert found is not None
    return found


def test_positions_are_aligned_and_the_first_difference_is_marked(witness: Witness) -> None:
    """Equal tokens, then the first that differs, then the rest."""
    strip = token_strip(witness, None, texts={})
    assert [position.relation for position in strip.positions][:3] == ["same", "part", "rest"]
    assert [position.index for position in strip.positions] == list(range(32))
    assert all(position.baseline is None for position in strip.positions[27:])


def test_probabilities_come_from_the_recording(witness: Witness) -> None:
    """Where the recording holds the same answer, every token has its likeliest beside it."""
    recording = examples.recording(stuck=("rivers",))
    part = token_strip(witness, recording, texts=examples.TOKEN_TEXTS).positions[1]
    assert part.baseline is not None
    assert part.after is not None
    assert (part.baseline.chosen.text, part.after.chosen.text) == (" vast", "uary")
    assert part.after.chosen.probability == pytest.approx(0.996, abs=1e-3)
    assert len(part.baseline.likeliest) == 3


def test_a_recording_of_another_answer_lends_nothing(witness: Witness) -> None:
    """Probabilities are never taken from tokens that are not the witness's own."""
    part = token_strip(witness, examples.recording(), texts={}).positions[1]
    assert part.after is not None
    assert part.after.likeliest == ()
    assert part.after.chosen.probability is None


def test_long_answers_are_cut_around_the_difference(witness: Witness) -> None:
    """A late difference in a long answer is shown with its surroundings, and the rest is counted."""
    long = witness.model_copy(
        update={
            "first_difference": 500,
            "baseline": witness.baseline.model_copy(update={"token_ids": tuple(range(1000))}),
        }
    )
    strip = token_strip(long, None, texts={})
    assert strip.left_out_before + len(strip.positions) + strip.left_out_after == 1000
    assert [position.index for position in strip.positions if position.relation == "part"] == [500]


def test_likeliest_of_a_side(witness: Witness) -> None:
    """The ranking where the two part keeps the order of the side."""
    ranking = likeliest(witness.after, texts=examples.TOKEN_TEXTS)
    assert [choice.text for choice in ranking] == ["uary", " is", " a"]
    assert ranking[0].probability == pytest.approx(0.4966, abs=1e-4)


def test_any_two_answers_can_be_aligned() -> None:
    """A shorter stretch than the witness's, with what each side thought likely, and the rest counted."""
    before, after = (
        examples.answer("india", ids, pass_number=number, t=1.0, cached=0)
        for number, ids in ((1, examples.healthy_ids(0) * 3), (6, examples.healthy_ids(0) * 2))
    )
    strip = answer_strip(before, after, place=50, texts=examples.TOKEN_TEXTS)
    assert [strip.positions[0].index, strip.positions[-1].index] == [46, 77]
    assert (strip.left_out_before, strip.left_out_after) == (46, 18)
    (part,) = (position for position in strip.positions if position.relation == "part")
    assert part.index == 50
    assert part.after
    assert len(part.after.likeliest) == 3
    assert strip.positions[-1].after is None
