"""Which null answers a judged answer is held against."""

from __future__ import annotations

from harness.check.noise.distance import Track
from harness.check.noise.null_answers import Pool, Row
from harness.history.passes import Control
from tests.check.stories import Story, failing, garbage, shifted, updated


def rows_of(story: Story) -> dict[tuple[str, str], Row]:
    """The row of every judged answer, by cache condition and prompt."""
    evidence = story.evidence()
    rows = evidence.null_answers.rows([each.reply for each in evidence.after])
    return {(row.track.reply.start.cache.value, row.track.reply.answer.prompt): row for row in rows}


def sizes(row: Row) -> tuple[int, int]:
    """How many baseline and null answers a row's pool has."""
    return len(row.pool.baseline), len(row.pool.null)


def test_computed_answers_meet_computed_ones() -> None:
    """After a sleep warm answers are computed, as the cold null passes and the first warm one were."""
    rows = rows_of(Story().baseline().null(passes=3).cycle())
    assert sizes(rows["warm", "p0"]) == sizes(rows["cold", "p0"]) == (2, 3)
    assert {track.reply.start.cache.value for track in rows["warm", "p0"].pool.null} == {"cold"}


def test_cached_answers_meet_cached_ones() -> None:
    """An answer from the prefix cache is held against warm null passes and the re-hit."""
    rows = rows_of(Story().baseline().null(passes=3).sleep(keeps_cache=True).wake().probe())
    assert sizes(rows["warm", "p0"]) == (1, 3)
    assert {track.reply.start.cache.value for track in rows["warm", "p0"].pool.null} == {"warm"}


def test_without_a_cache_all_passes_are_alike() -> None:
    """Where nothing is ever cached, warm and cold null passes are one pool."""
    rows = rows_of(Story(prefix_caching=False).baseline().null(passes=3).cycle())
    assert sizes(rows["warm", "p0"]) == (3, 6)
    assert rows["warm", "p0"].pool is rows["cold", "p0"].pool


def test_a_shared_beginning_does_not_make_an_answer_cached() -> None:
    """Less than half of the prompt from the cache, a shared system prompt, leaves an answer computed."""
    little = dict.fromkeys(["p0", "p1", "p2", "p3"], updated(cached_tokens=24))
    much = dict.fromkeys(["p0", "p1", "p2", "p3"], updated(cached_tokens=25))
    for cached, size in ((little, (2, 1)), (much, (1, 1))):
        story = Story().baseline().null().sleep().wake().probe(1, cold=cached)
        assert sizes(rows_of(story)["cold", "p0"]) == size


def test_servers_that_do_not_tell_are_matched_by_pass() -> None:
    """Without cached tokens, passes under the cell's salt and fresh ones are kept apart."""
    rows = rows_of(Story(tells_cached_tokens=False).baseline().null(passes=2).cycle())
    assert sizes(rows["warm", "p0"]) == (2, 2)
    assert sizes(rows["cold", "p0"]) == (1, 2)


def test_failed_answers_are_in_no_pool() -> None:
    """A request without an answer is no measure of noise."""
    rows = rows_of(Story().baseline().null({"p0": failing()}, passes=2).cycle())
    assert sizes(rows["cold", "p0"]) == (2, 0)
    assert sizes(rows["cold", "p1"]) == (2, 2)


def test_null_answers_are_measured_against_all_others() -> None:
    """A null answer is as far off as it is from the nearest of baseline and other null answers."""
    story = Story().baseline().null({"p0": garbage(5)}, passes=3).cycle()
    row = rows_of(story)["cold", "p0"]
    assert [each.furthest for each in row.pool.distances] == [0.0, 0.0, 0.0]
    story = Story().baseline().null({"p0": garbage(5)}).cycle()
    row = rows_of(story)["cold", "p0"]
    assert row.pool.distances[0].furthest > 0.5


def test_a_judged_answer_may_not_use_every_null_answer() -> None:
    """It has as many to be near to as each null answer has: one less than there are."""
    story = Story().baseline().null({"p0": garbage(5), "p1": garbage(5)})
    story.sleep().wake().probe(1, cold={"p0": garbage(5), "p1": garbage(5)})
    assert rows_of(story)["cold", "p0"].distance.furthest > 0.5
    story = Story().baseline().null({"p0": garbage(5)}, passes=2)
    story.sleep().wake().probe(1, cold={"p0": garbage(5)})
    assert rows_of(story)["cold", "p0"].distance.furthest == 0.0


def test_which_null_answer_is_left_out_changes_from_prompt_to_prompt() -> None:
    """So no null pass is the one that never counts."""
    story = Story().baseline()
    story.null({name: garbage(5) for name in story.names}).null()
    story.sleep().wake().probe(1, cold={name: garbage(5) for name in story.names})
    rows = rows_of(story)
    off = [rows["cold", name].distance.furthest > 0 for name in story.names]
    assert off == [True, False, True, False]


def test_an_answer_exceeds_only_beyond_every_null_answer() -> None:
    """An answer as far off as some null answer is not odd."""
    story = Story().baseline().null({"p0": shifted(0.3), "p1": shifted(0.1)})
    story.sleep().wake().probe(1, cold={"p0": shifted(0.3), "p1": shifted(0.3)})
    rows = rows_of(story)
    assert not rows["cold", "p0"].exceeds
    assert rows["cold", "p1"].exceeds
    assert not rows["cold", "p2"].exceeds


def test_the_spread_includes_the_baseline() -> None:
    """A baseline answer that lies off makes a pool as uncertain as a null answer would."""
    steady = rows_of(Story(prefix_caching=False).baseline().null().cycle())["warm", "p0"].pool
    assert steady.spread == 0.0
    story = Story(prefix_caching=False).baseline({"p0": shifted(0.3)}).null().cycle()
    assert rows_of(story)["warm", "p0"].pool.spread > 0.05
    assert Pool().spread == 0.0


def test_held_out_prompts_have_a_pool_without_null_answers() -> None:
    """A control's unseen prompt is measured against its one baseline answer."""
    story = Story().baseline().null().cycle().control(Control.UNSEEN_PROMPTS, {"p4": shifted(0.3)})
    evidence = story.evidence()
    [row] = evidence.null_answers.rows(evidence.control_replies(Control.UNSEEN_PROMPTS))
    assert sizes(row) == (1, 0)
    assert row.distance.furthest > 0.05


def test_the_only_answer_there_is_is_compared_with() -> None:
    """A single null answer without a baseline is not left out: nothing would be compared at all."""
    story = Story(prompts=1).null().sleep(keeps_cache=True).wake().probe(warm={"p0": garbage(1)})
    pool = Pool(null=tuple(Track(reply) for reply in story.evidence().null_replies[:1]))
    judged = Track(story.evidence().after_replies[0])

    assert pool.distance_of(judged).furthest > 0
    assert not pool.tells_noise
