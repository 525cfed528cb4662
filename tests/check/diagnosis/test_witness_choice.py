"""The example that is shown."""

from __future__ import annotations

import numpy as np

from harness.check.result import Witness
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from tests.check.stories import Change, Story, both, failing, garbage, shifted, stop_after, updated


def witness_of(warm: dict[str, Change]) -> Witness:
    """The witness of a story in which the warm answers change."""
    story = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=warm)
    witness = story.asked_again(warm).judged().witness
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


def test_an_unknown_gap_convinces_less_than_a_known_one() -> None:
    """Without candidates nobody can say how sure the baseline was."""
    unsure = updated(logprobs=None)
    usual = {"p0": unsure, "p1": gaps({9: 1.0})}
    story = Story().baseline(usual).null(usual).sleep().wake()
    story.probe(1, warm={"p0": both(garbage(2), unsure), "p1": both(usual["p1"], garbage(9))}, cold=usual)
    witness = story.judged().witness
    assert witness is not None
    assert (witness.prompt, witness.first_difference) == ("p1", 9)


def test_a_difference_at_the_very_first_token_is_the_earliest() -> None:
    """Position 0 comes before position 1."""
    assert chosen_among({"p0": (1, 3.0), "p1": (0, 2.0)}) == "p1"
    assert witness_of({"p0": shifted(0.5, 0)}).first_difference == 0


def test_a_gap_of_one_nat_is_sure_enough() -> None:
    """Exactly as sure as it takes."""
    exactly = {"p0": exact_gap(2, 1.0), "p1": exact_gap(1, 0.96875)}
    story = Story().baseline(exactly).null(exactly).sleep().wake()
    damaged = {name: both(change, garbage(2 if name == "p0" else 1)) for name, change in exactly.items()}
    witness = story.probe(1, warm=damaged, cold=exactly).judged().witness
    assert witness is not None
    assert (witness.prompt, witness.baseline_gap) == ("p0", 1.0)


def exact_gap(position: int, gap: float) -> Change:
    """A gap between numbers that float32 holds exactly."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top, chosen = answer.logprobs.top_values.copy(), answer.logprobs.chosen.copy()
        chosen[position] = top[position, 0] = -0.125
        top[position, 1:] = -0.125 - np.array([gap, gap + 1])
        table = Logprobs.pack(chosen=chosen, top_ids=answer.logprobs.top_ids, top_values=top)
        return answer.model_copy(update={"logprobs": table})

    return change


def test_the_candidate_with_the_id_zero_is_shown() -> None:
    """It is a token like any other; a place without one is not shown."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        ids = answer.logprobs.top_ids.copy()
        ids[:, 1], ids[:, 2] = 0, -1
        table = Logprobs.pack(
            chosen=answer.logprobs.chosen, top_ids=ids, top_values=answer.logprobs.top_values
        )
        return garbage(3)(answer).model_copy(update={"logprobs": table})

    likeliest = witness_of({"p0": change}).after.likeliest
    assert [choice.token_id for choice in likeliest][1:] == [0]
    assert len(likeliest) == 2


def test_where_an_answer_ends_there_are_no_candidates() -> None:
    """The shorter of the two has nothing to show at the token after its last."""
    witness = witness_of(
        {
            "p0": lambda answer: stop_after(9)(answer).model_copy(
                update={"token_ids": answer.token_ids[:9], "finish_reason": "length"}
            )
        }
    )
    assert witness.first_difference == 9
    assert witness.after.likeliest == ()
    assert len(witness.baseline.likeliest) == 3


def test_an_accusation_without_an_answer_has_no_witness() -> None:
    """A proof about memory, or about a prompt the baseline never answered, shows no answer."""
    result = Story().baseline().null().sleep(freed=0).wake().probe().judged()
    assert result.witness is None


def test_the_accused_answer_is_shown_and_not_the_same_prompts_other_one() -> None:
    """Prompt and pass must both be the finding's."""
    story = Story().baseline().null().sleep().wake()
    story.probe(1, cold={"p2": updated(system_fingerprint="other")})
    witness = story.judged().witness
    assert witness is not None
    assert (witness.prompt, witness.after.condition) == ("p2", "cold, cycle 1")
    assert witness.after.pass_number == story.recording().passes[-1].number
