"""A baseline that is broken already is nothing to compare with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from harness.check.result import Verdict
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from tests.check.stories import VOCABULARY, Change, Story, empty, garbage, loop

FOUR = ["p0", "p1", "p2", "p3"]


def always(changes: Mapping[str, Change]) -> Story:
    """An engine that answers so from the start, and comes back just the same."""
    return Story().baseline(changes).null(changes).cycle(1, warm=changes, cold=changes)


def guessed(answer: Answer) -> Answer:
    """The same tokens, none of them likelier than any other."""
    assert answer.logprobs is not None
    blind = np.full_like(answer.logprobs.chosen, -np.log(VOCABULARY))
    told = Logprobs.pack(
        chosen=blind, top_ids=answer.logprobs.top_ids, top_values=np.repeat(blind[:, np.newaxis], 3, axis=1)
    )
    return answer.model_copy(update={"logprobs": told})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (loop(1), "repeat one or two tokens over and over"),
        (loop(0, period=2), "repeat one or two tokens over and over"),
        (empty, "say nothing"),
        (guessed, "are no likelier than blind guesses"),
    ],
)
def test_most_answers_of_no_working_model_leave_nothing_to_compare(change: Change, what: str) -> None:
    """Garbage that comes back as garbage is not clean, and not blamed on sleep."""
    result = always(dict.fromkeys(FOUR, change)).judged()
    assert (result.verdict, result.cause) == (Verdict.INCONCLUSIVE, None)
    assert result.reason.startswith(f"the baseline itself is broken: 4 of 5 answers {what}, before anything")


def test_the_same_answer_to_every_prompt_is_none() -> None:
    """Whatever it says, it does not depend on what was asked."""
    same = {name: loop(0, period=9) for name in FOUR}
    result = always(same).judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "4 of 5 answers are the same for different prompts" in result.reason
    assert result.reason.endswith("and that the prompts ask for different answers")


@pytest.mark.parametrize("names", [[], ["p0"], ["p0", "p1"]])
def test_some_odd_answers_are_what_models_give(names: list[str]) -> None:
    """Fewer than half may repeat themselves: that is how small models are."""
    assert always(dict.fromkeys(names, loop(0))).judged().verdict is Verdict.CLEAN


def test_a_loop_over_phrases_is_prose() -> None:
    """A melting pot of a melting pot of: a working model of little size."""
    changes = {name: loop(2 + number, period=5 + number) for number, name in enumerate(FOUR)}
    assert always(changes).judged().verdict is Verdict.CLEAN


def test_damage_to_a_broken_baseline_is_corrupt_all_the_same() -> None:
    """What differs across the sleep differs, whatever it was before."""
    broken = dict.fromkeys(FOUR, loop(0))
    story = Story().baseline(broken).null(broken)
    story.cycle(1, warm=dict.fromkeys(FOUR, garbage(0)), cold=dict.fromkeys(FOUR, garbage(0)))
    assert story.judged().verdict is Verdict.CORRUPT
