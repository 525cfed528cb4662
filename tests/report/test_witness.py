"""The witness set side by side."""

from __future__ import annotations

import pytest

from harness.check.result import TokenChoice, Witness
from harness.report.witness import ENDED, facts, parting, probability, token_label, where_they_part
from tests.report import examples


@pytest.fixture
def witness() -> Witness:
    """The example's witness: the texts share a word, the tokens one token."""
    found = examples.corrupt_cell().witness
    assert found is not None
    return found


def test_texts_are_split_where_they_part(witness: Witness) -> None:
    """Put together again, the parts are the answers, and they differ from the first character on."""
    split = parting(witness)
    assert split.shared + split.baseline == witness.baseline.text
    assert split.shared + split.after == witness.after.text
    assert split.baseline[:1] != split.after[:1]


def test_an_answer_that_ended_where_the_other_went_on(witness: Witness) -> None:
    """A missing token is called an end, not a token."""
    longer = witness.model_copy(update={"first_difference": len(witness.baseline.token_ids)})
    row = next(row for row in facts(longer, token_texts={}) if row.label.startswith("token 2"))
    assert row.baseline == ENDED


def test_same_text_from_other_tokens_says_so(witness: Witness) -> None:
    """Token ids are what is compared: equal texts may hide different tokens."""
    same = witness.model_copy(
        update={"after": witness.after.model_copy(update={"text": witness.baseline.text})}
    )
    assert "The texts read the same." in where_they_part(same)


def test_same_tokens_do_not_part(witness: Witness) -> None:
    """Where only log-probabilities differ, or something beside the answer, nothing parts."""
    before = witness.baseline
    other = before.model_copy(update={"likeliest": witness.after.likeliest})
    shifted = witness.model_copy(update={"after": other})
    assert where_they_part(shifted).startswith("Both have the same tokens; from index 1 on")
    assert "the findings say" in where_they_part(witness.model_copy(update={"after": before}))


def test_how_sure_the_baseline_was(witness: Witness) -> None:
    """The gap is told in nat and as probabilities; without logprobs it is said to be unknown."""
    assert "99.6%, 5.90 nat ahead of the next likeliest (0.3%)" in where_they_part(witness)
    blind = witness.model_copy(update={"baseline_gap": None})
    assert "not known" in where_they_part(blind)


def test_the_first_token_differing_is_a_sentence_of_its_own(witness: Witness) -> None:
    """Nobody reads "after 0 equal tokens"."""
    at_once = witness.model_copy(update={"first_difference": 0})
    assert where_they_part(at_once).startswith("They diverge at the first token.")


def test_tokens_are_named_by_id_and_by_what_they_read() -> None:
    """An id alone where its text is not known; control characters in a token are visible."""
    assert token_label(7, texts={}) == "7"
    assert token_label(7, texts={7: " a\n"}) == "7 ' a\\n'"


def test_probabilities_stay_between_zero_and_one() -> None:
    """Rounding upstream can lift a log-probability above zero; nothing is more than certain."""
    assert probability(TokenChoice(token_id=1, logprob=1e-7)) == 1.0
    assert probability(TokenChoice(token_id=1, logprob=float("-inf"))) == 0.0
