"""Whether answers still begin as they did."""

from __future__ import annotations

import numpy as np

from harness.check.diagnosis.symptoms import count_intact
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from tests.check.stories import Change, Story, garbage, scaled, shifted, updated

NAMES = ["p0", "p1", "p2", "p3"]


def intact(changes: dict[str, Change], *, tolerance: float = 1e-3) -> int:
    """How many of the four warm answers after a sleep begin as before."""
    story = Story().baseline().null().cycle(1, warm=changes)
    warm = [each for each in story.evidence().after if each.reply.shares_salt]
    return count_intact(warm, tolerance=tolerance)


def one_contrast(by: float) -> Change:
    """The second likeliest first token moved."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        top = answer.logprobs.top_values.copy()
        top[0, 1] -= by
        logprobs = Logprobs.pack(
            chosen=answer.logprobs.chosen, top_ids=answer.logprobs.top_ids, top_values=top
        )
        return answer.model_copy(update={"logprobs": logprobs})

    return change


def test_equal_answers_begin_as_before() -> None:
    """Nothing changed, nothing is lost."""
    assert intact({}) == 4


def test_damage_after_the_first_token_leaves_it_intact() -> None:
    """What comes later has no say."""
    assert intact(dict.fromkeys(NAMES, garbage(1))) == 4


def test_damage_at_the_first_token_does_not() -> None:
    """Other candidates, or none, are no intact beginning."""
    nothing = Logprobs.pack(
        chosen=np.empty(0, dtype=np.float32),
        top_ids=np.empty((0, 3), dtype=np.int32),
        top_values=np.empty((0, 3), dtype=np.float32),
    )
    changes = {"p0": garbage(0), "p1": updated(logprobs=None), "p2": updated(token_ids=(), logprobs=nothing)}
    assert intact(changes) == 1


def test_a_moved_contrast_is_damage() -> None:
    """One candidate out of place beyond the tolerance is enough."""
    assert intact({"p0": one_contrast(0.01)}) == 3
    assert intact({"p0": one_contrast(0.0005)}) == 4
    assert intact({"p0": one_contrast(0.01)}, tolerance=0.02) == 4


def test_answers_that_are_all_off_by_nearly_as_much_as_may_be_are_not_intact() -> None:
    """Where noise moves hardly any of them so far, something else moved all of them."""
    story = Story().baseline().null().cycle(1, warm=dict.fromkeys(NAMES, one_contrast(0.019)))
    evidence = story.evidence()
    warm = [each for each in evidence.after if each.reply.shares_salt]
    assert count_intact(warm, tolerance=0.02) == 4
    assert count_intact(warm, tolerance=0.02, null=evidence.null) == 0
    assert count_intact(warm, tolerance=0.04, null=evidence.null) == 4
    assert count_intact(warm, tolerance=0.02, null=warm) == 4


def test_the_normaliser_does_not_matter() -> None:
    """All candidates less likely by the same amount stand to each other as before."""
    assert intact(dict.fromkeys(NAMES, shifted(0.7, 0))) == 4


def test_a_common_factor_does_not_matter() -> None:
    """Logits scaled as a whole come from the same hidden state; scaled in one answer only they do not."""
    assert intact(dict.fromkeys(NAMES, scaled(0.9))) == 4
    assert intact({"p0": scaled(0.9)}) == 3


def test_nothing_is_intact_where_nothing_is_compared() -> None:
    """No answers, none intact."""
    assert count_intact([], tolerance=1e-3) == 0


def beginning(*candidates: tuple[int, float]) -> Change:
    """The first token's candidates are these; the rest of the answer is as it was."""

    def change(answer: Answer) -> Answer:
        assert answer.logprobs is not None
        ids, top = answer.logprobs.top_ids.copy(), answer.logprobs.top_values.copy()
        for column, (token, value) in enumerate(candidates):
            ids[0, column], top[0, column] = token, value
        logprobs = Logprobs.pack(chosen=answer.logprobs.chosen, top_ids=ids, top_values=top)
        return answer.model_copy(update={"logprobs": logprobs})

    return change


def intact_beginning(before: Change, after: Change) -> bool:
    """Whether p0's answer, the only one, begins as before."""
    story = Story(prompts=1, held_out=0).baseline({"p0": before}).null().sleep().wake()
    story.probe(1, warm={"p0": after})
    return count_intact(story.evidence().after[:1], tolerance=1e-3) == 1


USUAL = beginning((300, -0.1), (301, -1.1), (302, -2.1))


def test_a_candidate_that_is_not_listed_any_more_says_nothing() -> None:
    """What is left of the list decides; without the likeliest, or with nothing beside it, nothing does."""
    assert intact_beginning(USUAL, beginning((300, -0.1), (999, -1.0), (302, -2.1)))
    assert intact_beginning(USUAL, beginning((300, -0.1), (301, -1.1), (999, -2.0)))
    assert not intact_beginning(USUAL, beginning((999, -0.1), (301, -1.1), (302, -2.1)))
    assert not intact_beginning(USUAL, beginning((300, -0.1), (998, -1.1), (999, -2.1)))


def test_the_candidate_with_the_id_zero_counts() -> None:
    """It is a token like any other; a place without a candidate is none."""
    usual = beginning((300, -0.1), (0, -1.1), (302, -2.1))
    assert not intact_beginning(usual, beginning((300, -0.1), (0, -1.4), (302, -2.1)))
    gap = beginning((300, -0.1), (301, -1.1), (-1, float("-inf")))
    assert intact_beginning(gap, gap)


def test_near_candidates_say_too_little_about_a_common_factor() -> None:
    """Contrasts of a few hundredths of a nat must stay as they are; from a tenth on they may be scaled."""
    near = beginning((300, -0.1), (301, -0.15), (302, -0.16))
    assert intact_beginning(near, near)
    assert not intact_beginning(near, beginning((300, -0.1), (301, -0.35), (302, -0.4)))
    clear = beginning((300, -0.5), (301, -0.75), (302, -1.0))
    assert intact_beginning(clear, beginning((300, -0.5), (301, -1.0), (302, -1.5)))
