"""Whether the weights are those that their version names."""

from __future__ import annotations

from harness.check.checkers import weights
from harness.check.result import Cause, Strength, Verdict
from harness.history.observations import WeightChecksums
from tests.check.stories import Story

OWN, OTHER, MIXED = {"a": "1", "b": "1"}, {"a": "2", "b": "2"}, {"a": "2", "b": "1"}


def told(story: Story, checksums: dict[str, str], version: str | None, *, reference: str = "own") -> Story:
    """Tell of the weights, and what the engine calls them."""
    look = WeightChecksums(
        t=story.now(), step=None, reference=reference, checksums=checksums, version=version
    )
    return story.tell(look)


def updated(story: Story, version: str) -> Story:
    """End an update."""
    story.call("9", "/finish_weight_update", {"weight_version": version})
    return story


def test_weights_that_belong_to_their_version_are_right() -> None:
    """The baseline's weights under any name, and those of a variant under another."""
    story = told(Story(), OWN, None)
    story = told(updated(story, "other"), OTHER, "other", reference="other")
    story = told(updated(story, "own"), OWN, "own")
    story = told(updated(story, "other"), OTHER, "other", reference="other")
    assert list(weights.check(story.evidence())) == []


def test_weights_that_are_not_their_baselines_are_found() -> None:
    """The engine vouches for a version of which a parameter never arrived."""
    story = told(updated(told(Story(), OWN, None), "own"), MIXED, "own")
    [finding] = weights.check(story.evidence())
    assert finding.message == ("/weight_info says own, but 1 parameter of 2 are not what belongs to it: a")
    assert finding.strength is Strength.PROOF
    assert finding.evidence["version"] == "own"


def test_one_version_has_the_same_weights_twice() -> None:
    """Also where no baseline was taken of them."""
    story = told(updated(Story(), "x"), OTHER, "x", reference="x")
    story = told(updated(story, "x"), MIXED, "x", reference="x")
    assert len(list(weights.check(story.evidence()))) == 1


def test_a_reload_is_no_update() -> None:
    """What vLLM calls its weights afterwards is no claim about what was loaded since, nor after level 2."""
    for since in ("/collective_rpc", "/sleep"):
        story = updated(told(Story(), OWN, None), "own")
        story.call("9", since, {"method": "reload_weights", "level": "2"})
        assert list(weights.check(told(story, MIXED, "own").evidence())) == []


def test_what_is_not_told_accuses_nobody() -> None:
    """A release without checksums, and one that names no version."""
    story = updated(told(Story(), OWN, None), "own")
    assert list(weights.check(told(story, {}, "own").evidence())) == []
    assert list(weights.check(told(story, MIXED, None).evidence())) == []


def test_a_version_that_lies_is_degraded_where_answers_hold() -> None:
    """It is called lost weights: the engine does not have what it was given."""
    story = told(Story().baseline().null(), OWN, None)
    story = told(updated(story.cycle(), "own"), MIXED, "own")
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.LOST_WEIGHTS)
