"""Two causes at once are both named; the first stays the one that machines read."""

from __future__ import annotations

from harness.check.result import Cause, CellResult
from harness.history.passes import Control
from tests.check.stories import Change, Story, garbage

ALL = ["p0", "p1", "p2", "p3", "p4"]


def damage(change: Change | None = None) -> dict[str, Change]:
    """The same damage to every prompt, by default to whole answers."""
    return dict.fromkeys(ALL, change or garbage(0))


def lost_weights(*, keeps_cache: bool = False, buffers: str = "same") -> Story:
    """Weights that did not come back, as their checksums show."""
    story = Story().baseline().null().checksums({"w": "1"}, buffers={"b": "same"})
    story.sleep(keeps_cache=keeps_cache).wake().probe(1, warm=damage(), cold=damage())
    story.checksums({"w": "2"}, buffers={"b": buffers})
    return story.control(Control.FRESH_SALT, damage())


def named(result: CellResult) -> tuple[Cause | None, tuple[Cause, ...]]:
    """The first cause, and the others."""
    return result.cause, result.other_causes


def test_one_cause_stands_alone() -> None:
    """Nothing is added where one cause explains all, and `verdict.json` is as it was."""
    result = lost_weights().control(Control.RELOAD_WEIGHTS).judged()
    assert named(result) == (Cause.LOST_WEIGHTS, ())
    assert "other_causes" not in result.model_dump(mode="json")


def test_lost_weights_and_a_prefix_cache_that_was_kept() -> None:
    """That blocks which sleep threw away are read is proven by what was cached, whatever the weights are."""
    result = lost_weights(keeps_cache=True).control(Control.RELOAD_WEIGHTS).judged()
    assert named(result) == (Cause.LOST_WEIGHTS, (Cause.STALE_PREFIX_CACHE,))
    assert (
        "lost weights: the checksums of 1 parameter changed (w); loading the weights again heals 4 of 4; "
        "and stale prefix cache: p0, cycle 1, warm: 48 prompt tokens came from the prefix cache although the "
        "sleep before had discarded the KV cache"
    ) in result.reason
    assert result.model_dump(mode="json")["other_causes"] == ["stale prefix cache"]


def test_lost_weights_and_lost_buffers() -> None:
    """Each has checksums of its own."""
    result = lost_weights(buffers="lost").control(Control.RELOAD_WEIGHTS, damage()).judged()
    assert named(result) == (Cause.LOST_WEIGHTS, (Cause.LOST_BUFFERS,))
    assert "and lost buffers: the checksums of 1 buffer changed" in result.reason


def test_lost_weights_and_a_broken_decode_path() -> None:
    """Loading restores the weights' checksums, and answers that begin as before still go wrong."""
    story = lost_weights().checksums({"w": "1"}, buffers={"b": "same"})
    result = story.control(Control.RELOAD_WEIGHTS, damage(garbage(2))).judged()
    assert named(result) == (Cause.LOST_WEIGHTS, (Cause.DECODE_PATH,))
    assert "loading them again restores their checksums and not all answers" in result.reason


def test_weights_that_a_reload_does_not_bring_back_accuse_nobody_else() -> None:
    """What stays wrong is theirs as long as they are not what they were."""
    story = lost_weights().checksums({"w": "3"}, buffers={"b": "same"})
    result = story.control(Control.RELOAD_WEIGHTS, damage(garbage(2))).judged()
    assert named(result) == (Cause.LOST_WEIGHTS, ())
