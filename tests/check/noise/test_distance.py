"""How far answers lie from each other."""

from __future__ import annotations

import numpy as np
import pytest

from harness.check.answer_pair import Reply
from harness.check.noise.distance import (
    NONE,
    Track,
    common_prefix,
    contrasts,
    distance_between,
    measure,
    shifts,
)
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, PassStarted
from tests.check.stories import Story, scaled, shifted

START = PassStarted.model_validate(
    {
        "t": 0,
        "number": 1,
        "step": "1",
        "probe": "baseline",
        "role": "baseline",
        "cache": "warm",
        "concurrency": 1,
        "cycle": 0,
    }
)

ROWS = [[(7, -0.1), (8, -2.1), (9, -3.1)], [(5, -0.2), (6, -1.2), (4, -4.2)]]


def track(rows: list[list[tuple[int, float]]], *, tokens: tuple[int, ...] | None = None) -> Track:
    """An answer that took the first candidate of every row, or ``tokens``."""
    taken = tokens if tokens is not None else tuple(row[0][0] for row in rows)
    table = Logprobs.pack(
        chosen=np.array([row[0][1] for row in rows], dtype=np.float32),
        top_ids=np.array([[token for token, _ in row] for row in rows], dtype=np.int32),
        top_values=np.array([[value for _, value in row] for row in rows], dtype=np.float32),
    )
    answer = Answer(t=0, pass_number=1, prompt="p0", token_ids=taken, seconds=1, logprobs=table)
    return Track(Reply(start=START, answer=answer))


def bare(*tokens: int) -> Track:
    """An answer without log-probabilities."""
    answer = Answer(t=0, pass_number=1, prompt="p0", token_ids=tokens, seconds=1)
    return Track(Reply(start=START, answer=answer))


def changed(row: int, column: int, token: int, value: float) -> list[list[tuple[int, float]]]:
    """The rows with one candidate replaced."""
    rows = [list(each) for each in ROWS]
    rows[row][column] = (token, value)
    return rows


def test_equal_answers_do_not_deviate() -> None:
    """All positions are compared, none is off."""
    assert measure(track(ROWS), [track(ROWS)]) == NONE.__class__(
        positions=2, typical=0.0, furthest=0.0, furthest_at=0
    )


def test_a_contrast_is_measured() -> None:
    """A runner-up that moved by 0.6 nat moves the mean of its row's three numbers by 0.2."""
    off = measure(track(changed(1, 1, 6, -1.8)), [track(ROWS)])
    assert off.furthest == pytest.approx(0.2)
    assert off.furthest_at == 1
    assert off.typical == pytest.approx(0.1)


def test_the_likeliest_token_is_measured_by_itself() -> None:
    """If all candidates move together only the likeliest one's own number counts: contrasts stay."""
    rows = [[(token, value - 0.3) for token, value in row] for row in ROWS]
    assert shifts(track(rows), track(ROWS), positions=2) == pytest.approx([0.1, 0.1], abs=1e-6)


def test_the_normaliser_drops_out_of_contrasts() -> None:
    """Moving the likeliest token alone moves its own number and every contrast to it."""
    assert shifts(track(changed(0, 0, 7, -0.4)), track(ROWS), positions=2) == pytest.approx(
        [0.3, 0.0], abs=1e-6
    )


def test_candidates_are_found_wherever_they_stand() -> None:
    """Another order of the same candidates is no deviation by itself."""
    rows = [[ROWS[0][0], (9, -2.05), (8, -2.1)], ROWS[1]]
    # 9 moved by 1.05 nat, 8 and 7 not at all.
    assert shifts(track(rows), track(ROWS), positions=2) == pytest.approx([0.35, 0.0], abs=1e-6)


def test_a_lost_candidate_counts_as_little_as_possible() -> None:
    """What is no longer listed fell at least below what is: no more than that is held against it."""
    lost_last = track(changed(0, 2, 3, -3.0))
    assert shifts(lost_last, track(ROWS), positions=2) == pytest.approx([0.0, 0.0], abs=1e-6)
    lost_second = track(changed(0, 1, 3, -2.0))
    assert shifts(lost_second, track(ROWS), positions=2) == pytest.approx([1.0 / 3, 0.0], abs=1e-6)


def test_another_number_of_candidates_can_be_compared() -> None:
    """A shorter list is compared as far as it goes."""
    short = [row[:2] for row in ROWS]
    assert shifts(track(short), track(ROWS), positions=2) == pytest.approx([0.0, 0.0], abs=1e-6)
    assert shifts(track(ROWS), track(short), positions=2) == pytest.approx([0.0, 0.0], abs=1e-6)


def test_missing_places_do_not_count() -> None:
    """A place without a candidate is the same as the same place without one, and weighs nothing."""
    rows = [[(7, -0.1), (8, -2.1), (-1, -np.inf)], ROWS[1]]
    moved = [[(7, -0.1), (8, -2.5), (-1, -np.inf)], ROWS[1]]
    assert measure(track(rows), [track(rows)]).furthest == 0.0
    assert measure(track(moved), [track(rows)]).furthest == pytest.approx(0.2)


def test_a_number_that_is_none_is_infinitely_far_off() -> None:
    """NaN never passes for near."""
    assert measure(track(changed(0, 1, 8, np.nan)), [track(ROWS)]).furthest == np.inf


def test_the_position_where_they_part_is_still_compared() -> None:
    """Up to and including the first other token both were asked the same."""
    rows = [[(7, -0.1), (8, -2.1), (9, -3.1)], [(6, -0.7), (5, -0.75), (4, -4.2)], [(1, -1.0)] * 3]
    three = [*ROWS, [(2, -0.5), (3, -1.0), (1, -2.0)]]
    off = measure(track(rows), [track(three)])
    assert off.positions == 2
    assert off.furthest_at == 1


def test_taking_another_token_counts_as_much_as_the_reference_was_sure() -> None:
    """The reference held its token 1 nat likelier than the one that was taken."""
    off = distance_between(track(ROWS, tokens=(7, 6)), track(ROWS), shared=1)
    assert off.furthest == pytest.approx(1.0)
    assert off.furthest_at == 1
    assert off.typical == 0.0


def test_an_unlisted_token_counts_as_the_last_listed_one() -> None:
    """Nothing more is known of a token the reference did not list."""
    assert distance_between(track(ROWS, tokens=(99, 6)), track(ROWS), shared=0).furthest == pytest.approx(3.0)


def test_an_answer_that_breaks_off_cannot_be_noise() -> None:
    """An end is a token of its own: without one, neither side may stop in the middle of the other."""
    short = track(ROWS[:1])
    for one, other in ((short, track(ROWS)), (track(ROWS), short)):
        off = measure(one, [other])
        assert off.furthest == np.inf
        assert off.furthest_at == 1


def test_an_empty_answer_cannot_be_noise() -> None:
    """No token at all is infinitely far from any answer, and the same as another empty one."""
    empty = track(ROWS[:1], tokens=())
    nothing = bare()
    assert measure(nothing, [track(ROWS)]).furthest == np.inf
    assert measure(track(ROWS), [nothing]).furthest == np.inf
    assert measure(nothing, [bare()]) == NONE
    assert common_prefix(empty, track(ROWS)) == 0


def test_without_logprobs_only_equal_tokens_are_near() -> None:
    """Nothing says how near a tie was, so any other token is infinitely far off."""
    assert measure(bare(1, 2), [bare(1, 2)]) == NONE
    assert measure(bare(1, 2), [bare(1, 3)]).furthest == np.inf
    assert measure(bare(7, 5), [track(ROWS)]).furthest == np.inf


def test_the_nearest_reference_is_taken() -> None:
    """Of several references the one with the longest common beginning counts, of equals the first."""
    near = track(ROWS, tokens=(7, 6))
    far = track(ROWS, tokens=(8, 6))
    assert measure(track(ROWS, tokens=(7, 6)), [far, near]).furthest == 0.0
    moved = track(changed(1, 1, 6, -1.8))
    assert measure(track(ROWS), [track(ROWS), moved]).furthest == 0.0
    assert measure(track(ROWS), [moved, track(changed(1, 1, 6, -1.5))]).furthest == pytest.approx(0.2)


def test_without_references_nothing_is_measured() -> None:
    """An answer without any counterpart has no deviation."""
    assert measure(track(ROWS), []) == NONE


def test_contrasts_are_differences_to_the_likeliest() -> None:
    """Every listed candidate but the first has one."""
    assert contrasts(track(ROWS)) == pytest.approx([2.0, 3.0, 1.0, 4.0])
    rows = [[(7, -0.1), (8, -2.1), (-1, -np.inf)], ROWS[1]]
    assert contrasts(track(rows)) == pytest.approx([2.0, 1.0, 4.0])


def test_repetition_is_measured_in_a_window() -> None:
    """Only the first tokens count, and asking twice gives the same."""
    looped = bare(*[5] * 9, 1, 2, 3, 4, 6, 7, 8, 9)
    assert looped.repeated_ngrams(9) == pytest.approx(5 / 6)
    assert looped.repeated_ngrams(9) == looped.repeated_ngrams(9)
    assert looped.repeated_ngrams(17) == pytest.approx(5 / 14)


def test_common_prefix_of_recorded_answers() -> None:
    """An answer shares all its tokens with itself."""
    answers = Story().baseline().recording().passes[0].answers
    tracks = [Track(Reply(start=START, answer=answer)) for answer in answers.values()]
    assert [common_prefix(each, each) for each in tracks] == [24, 24, 12, 24]


def test_the_reference_that_goes_along_furthest_counts() -> None:
    """Wherever it stands, be it the longest answer or the shortest."""
    three = [*ROWS, [(2, -0.5), (3, -1.0), (1, -2.0)]]
    moved = [ROWS[0], [(5, -0.2), (6, -1.8), (4, -4.2)], three[2]]
    judged, whole, short = track(three), track(moved), track(ROWS[:1])
    other = track(three, tokens=(7, 6, 2))
    for references in ([whole, short, other], [short, other, whole], [other, whole, short]):
        assert measure(judged, references).furthest == pytest.approx(0.2)
        assert measure(judged, references).positions == 3


def test_a_tie_between_references_goes_to_the_first() -> None:
    """Two references that part at the same token: the earlier one is what is compared with."""
    near, far = track(ROWS, tokens=(7, 6)), track(changed(0, 1, 8, -5.1), tokens=(7, 6))
    first, second = measure(track(ROWS), [near, far]), measure(track(ROWS), [far, near])
    assert first.furthest < second.furthest


def test_parting_and_shift_are_held_against_each_other() -> None:
    """The larger of the two is how far off an answer lies, and it says at which token."""
    shifted_before = track(changed(0, 1, 8, -8.1), tokens=(7, 6))
    off = distance_between(shifted_before, track(ROWS), shared=1)
    assert off.furthest == pytest.approx(2.0)
    assert off.furthest_at == 0
    assert off.typical == pytest.approx(1.0)
    assert off.positions == 2
    parted = distance_between(track(ROWS, tokens=(7, 4)), track(ROWS), shared=1)
    assert parted.furthest == pytest.approx(4.0)
    assert (parted.furthest_at, parted.typical) == (1, 0.0)


def test_a_likelier_token_than_the_references_costs_nothing() -> None:
    """Where the reference itself did not take its likeliest token, taking that is no damage."""
    sampled = track(ROWS, tokens=(7, 6))
    assert distance_between(track(ROWS), sampled, shared=1).furthest == 0.0


def test_equal_tokens_with_other_numbers_have_every_position() -> None:
    """The mean is taken over all of them, the furthest is the largest."""
    rows = [[(7, -0.1), (8, -2.4), (9, -3.1)], [(5, -0.2), (6, -1.8), (4, -4.2)]]
    off = measure(track(rows), [track(ROWS)])
    assert (off.positions, off.furthest_at) == (2, 1)
    assert off.typical == pytest.approx(0.15)


def test_a_longer_answer_parts_where_the_shorter_ends() -> None:
    """One is the whole beginning of the other, whichever way they are compared."""
    assert common_prefix(track(ROWS[:1]), track(ROWS)) == common_prefix(track(ROWS), track(ROWS[:1])) == 1
    assert common_prefix(track(ROWS), track(ROWS, tokens=(7, 6))) == 1
    assert common_prefix(track(ROWS), track(ROWS, tokens=(8, 5))) == 0


def test_a_lost_likeliest_token_moves_every_contrast() -> None:
    """What was likeliest is not listed any more: at least as unlikely as the least that is."""
    lost = [[(6, -0.1), (8, -2.1), (9, -3.1)], ROWS[1]]
    # 7 fell from -0.1 to -3.1 or below: 3 nat by itself, and 3 nat against each of the two others.
    assert shifts(track(lost), track(ROWS), positions=2) == pytest.approx([3.0, 0.0], abs=1e-6)


def test_a_candidate_that_was_unlikely_may_be_lost_for_nothing() -> None:
    """It was below everything that is listed now; nothing says that it moved."""
    tight = [[(7, -0.1), (1, -0.2), (2, -0.3)], ROWS[1]]
    assert shifts(track(tight), track(ROWS), positions=2) == pytest.approx([0.0, 0.0], abs=1e-6)


def test_only_the_first_positions_are_compared() -> None:
    """What comes after the tokens that can be compared is not looked at."""
    other = track([ROWS[0], [(1, -9.0), (2, -9.5), (3, -9.9)]])
    assert shifts(other, track(ROWS), positions=1).tolist() == [0.0]


def test_contrasts_leave_out_what_is_no_number() -> None:
    """Neither a missing candidate nor a NaN says anything about a grid; the id 0 does."""
    rows = [[(7, -0.5), (0, -1.0), (-1, -2.0)], [(5, -0.5), (6, np.nan), (4, -2.5)]]
    assert contrasts(track(rows)).tolist() == [0.5, 2.0]


@pytest.mark.parametrize("factor", [0.5, 0.98, 1.0, 1.5])
def test_the_common_factor_of_all_contrasts_is_found(factor: float) -> None:
    """It is a property of the answer, not of any one token."""
    story = Story(prompts=1).baseline().null().sleep().wake().probe(warm={"p0": scaled(factor)})
    judged, reference = (
        Track(reply) for reply in (story.evidence().after_replies[0], story.evidence().baseline["p0"][0])
    )

    assert distance_between(judged, reference, shared=len(judged.tokens)).scale == pytest.approx(
        factor, rel=1e-5
    )


def test_a_shift_of_all_candidates_is_no_factor() -> None:
    """What all candidates have in common drops out of the contrasts."""
    story = Story(prompts=1).baseline().null().sleep().wake().probe(warm={"p0": shifted(0.5, 0)})
    judged, reference = (
        Track(reply) for reply in (story.evidence().after_replies[0], story.evidence().baseline["p0"][0])
    )

    assert distance_between(judged, reference, shared=len(judged.tokens)).scale == pytest.approx(1.0)
