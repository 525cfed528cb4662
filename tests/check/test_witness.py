"""The example that is shown."""

from __future__ import annotations

import numpy as np

from harness.check.result import Witness
from harness.history.events import Answer, Logprobs
from tests.check.stories import Change, Story, both, failing, garbage, shifted, updated


def witness_of(warm: dict[str, Change]) -> Witness:
    """The witness of a story in which the warm answers change."""
    witness = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=warm).judged().witness
    assert witness is not None
    return witness


def gaps(values: dict[int, float]) -> Change:
    """Set the baseline's gap between the two likeliest tokens at some positions."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top = answer.logprobs.top_values.copy()
        for position, gap in values.items():
            top[position, 1:] = top[position, 0] - np.array([gap, gap + 1])
        logprobs = Logprobs.pack(
            chosen=answer.logprobs.chosen, top_ids=answer.logprobs.top_ids, top_values=top
        )
        return answer.model_copy(update={"logprobs": logprobs})

    return change


def chosen_among(differences: dict[str, tuple[int, float]]) -> str:
    """The prompt that is shown, given where each differs and how sure the baseline was there."""
    sure = {name: gaps({position: gap}) for name, (position, gap) in differences.items()}
    story = Story().baseline(sure).null(sure).sleep().wake()
    damaged = {name: both(sure[name], garbage(position)) for name, (position, _) in differences.items()}
    healthy = dict(sure)
    witness = story.probe(1, warm=damaged, cold=healthy).judged().witness
    assert witness is not None
    return witness.prompt


def test_both_sides_are_shown() -> None:
    """The witness has prompt, texts, ids, endings, conditions and candidates of both answers."""
    witness = witness_of({"p1": garbage(3)})
    assert (witness.prompt, witness.prompt_text) == ("p1", "Tell me about thing 1.")
    assert witness.first_difference == 3
    assert witness.baseline.condition == "rehit, 48 prompt tokens from the cache, baseline"
    assert witness.after.condition == "warm, 48 prompt tokens from the cache, cycle 1"
    assert witness.after.token_ids[:4] == (*witness.baseline.token_ids[:3], 6)
    assert witness.after.token_ids[3] == witness.after.likeliest[0].token_id
    assert witness.baseline.token_ids[3] == witness.baseline.likeliest[0].token_id
    assert (witness.baseline.cached_tokens, witness.baseline.finish_reason) == (48, "length")
    assert witness.baseline.text.startswith("w")
    assert witness.baseline.pass_number == 2
    first, second = witness.baseline.likeliest[:2]
    assert witness.baseline_gap == first.logprob - second.logprob


def test_an_early_difference_is_preferred() -> None:
    """Of differences where the baseline was sure, the earliest is the clearest."""
    assert chosen_among({"p0": (5, 2.0), "p1": (3, 2.0), "p3": (9, 3.0)}) == "p1"


def test_a_near_tie_is_shown_last() -> None:
    """A later difference where the baseline was sure convinces more than an early near-tie."""
    assert chosen_among({"p0": (1, 0.2), "p1": (7, 2.0)}) == "p1"


def test_of_equally_early_ones_the_surest_is_shown() -> None:
    """The larger gap decides between differences at the same token."""
    assert chosen_among({"p0": (4, 1.5), "p1": (4, 2.5)}) == "p1"


def test_tokens_are_preferred_to_logprobs() -> None:
    """A changed token convinces more than a shifted log-probability."""
    assert witness_of({"p0": shifted(2.0, 0), "p1": garbage(20)}).prompt == "p1"


def test_logprobs_alone_are_shown_where_they_differ() -> None:
    """With equal tokens the witness points at the first log-probability that differs."""
    witness = witness_of({"p0": shifted(0.5, 4)})
    assert witness.first_difference == 4
    assert witness.baseline.token_ids == witness.after.token_ids
    assert witness.after.likeliest[0].logprob < witness.baseline.likeliest[0].logprob


def test_a_request_without_an_answer_is_shown() -> None:
    """Where no answer came back, the baseline's stands beside nothing."""
    witness = witness_of({"p1": failing()})
    assert witness.prompt == "p1"
    assert witness.after.token_ids == ()
    assert witness.after.likeliest == ()
    assert witness.baseline.likeliest != ()
    assert witness.first_difference == 0


def test_what_is_wrong_beside_the_tokens_is_shown() -> None:
    """An answer accused by the protocol alone is the witness."""
    assert witness_of({"p3": updated(system_fingerprint="other")}).prompt == "p3"


def test_values_that_are_no_numbers_are_left_out() -> None:
    """A witness must survive JSON, which has no NaN."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top = answer.logprobs.top_values.copy()
        top[:, 1] = np.nan
        logprobs = Logprobs.pack(
            chosen=answer.logprobs.chosen, top_ids=answer.logprobs.top_ids, top_values=top
        )
        return answer.model_copy(update={"logprobs": logprobs})

    witness = witness_of({"p0": change})
    assert len(witness.after.likeliest) == 2
    assert Witness.model_validate_json(witness.model_dump_json()) == witness
