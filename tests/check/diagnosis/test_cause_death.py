"""Whether the engine died, and after which transition."""

from __future__ import annotations

import pytest

from harness.check.diagnosis import cause
from harness.check.result import Cause, Verdict
from harness.history.event_base import CallFailure
from tests.check.stories import Change, Story, both, failing, updated

NAMES = ["p0", "p1", "p2", "p3"]
DEAD = {
    "kind": "http",
    "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    "status": 500,
}


def refused(story: Story) -> Story:
    """Let the engine refuse to load weights that are not there, as it has to."""
    step = story._begin("reload_weights", must_fail=True, weights="missing")
    story.call(step, "/collective_rpc", {"method": "reload_weights"}, status=500)
    return story


def every(change: Change) -> dict[str, Change]:
    """The same for all prompts."""
    return dict.fromkeys(NAMES, change)


def says_dead() -> Change:
    """The server answers for an engine that is gone."""
    return both(failing("http", 500), updated(failure=_failure()))


def _failure() -> object:
    failed = Story().baseline().null().cycle(1, warm={"p0": failing("http", 500)})
    answer = next(reply.answer for reply in failed.evidence().failed)
    assert answer.failure is not None
    return answer.failure.model_copy(update=DEAD)


def test_an_engine_that_dies_after_what_it_refused() -> None:
    """The request after a refused reload is told that the engine is gone, those after it find no server."""
    story = refused(Story().baseline().null())
    story.probe(1, warm=every(says_dead()), cold=every(failing("connection")))
    result = story.judged()
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER)
    assert result.reason == (
        "answers to 4 of 4 prompts changed (reload missing weights (must fail)); scheduler or "
        "protocol: the engine died at the first request after reload missing weights (must fail), "
        "which it had refused with status 500"
    )


def test_what_it_said_of_its_engine_is_enough() -> None:
    """A server that outlives its engine answers every request with the same error."""
    story = (
        Story().baseline().null().sleep().wake().probe(1, warm=every(says_dead()), cold=every(says_dead()))
    )
    assert cause.death_of_the_engine(story.evidence()) == (
        "the engine died at the first request after wake up, which it had answered with status 200"
    )


def test_answers_that_came_before_the_death_are_counted() -> None:
    """An engine that answered for a while did not die of the first request."""
    story = Story().baseline().null().cycle(1, cold=every(failing("connection")))
    assert cause.death_of_the_engine(story.evidence()) == (
        "the engine died 4 answers after wake up, which it had answered with status 200"
    )


def test_the_transition_is_the_last_one_before_the_death() -> None:
    """What the script did to the dead engine afterwards is not to blame."""
    story = refused(Story().baseline().null())
    story.probe(1, warm=every(says_dead()), cold=every(failing("connection")))
    story.reload().probe(2, warm=every(failing("connection")), cold=every(failing("connection")))
    assert "after reload missing weights (must fail)" in (cause.death_of_the_engine(story.evidence()) or "")


def test_a_transition_without_an_answer_is_told_without_one() -> None:
    """A call that got no answer, or was not recorded, says nothing."""
    story = Story().baseline().null()
    story._begin("resume")
    story.probe(1, warm=every(failing("connection")), cold=every(failing("connection")))
    assert cause.death_of_the_engine(story.evidence()) == "the engine died at the first request after resume"


def test_a_death_during_the_transition_is_told_as_such() -> None:
    """The transition's own call found nobody any more."""
    story = Story().baseline().null().sleep(status=500)
    at = next(
        number for number, event in enumerate(story.events) if event.kind == "call" and event.step == "3"
    )
    gone = CallFailure(kind="connection", message="ReadError: ")
    story.events[at] = story.events[at].model_copy(update={"status": None, "failure": gone})
    story.probe(1, warm=every(failing("connection")), cold=every(failing("connection")))
    assert cause.death_of_the_engine(story.evidence()) == "the engine died during sleep level 1"


@pytest.mark.parametrize(
    ("warm", "cold"),
    [
        ({}, {}),
        (every(failing("connection")), {}),
        ({"p1": failing("connection")}, every(failing("http", 500))),
        (every(failing("timeout")), every(failing("timeout"))),
        (every(failing("http", 500)), every(failing("http", 500))),
    ],
    ids=["healthy", "answers again", "answers in between", "silent", "errors of another kind"],
)
def test_an_engine_that_may_live_has_not_died(warm: dict[str, Change], cold: dict[str, Change]) -> None:
    """Every request from one on must fail, and one of them must have found nobody to answer it."""
    story = Story().baseline().null().cycle(1, warm=warm, cold=cold)
    assert cause.death_of_the_engine(story.evidence()) is None


def test_a_death_before_any_transition_is_nobodys() -> None:
    """There is no transition to name."""
    story = (
        Story()
        .baseline()
        .null()
        .probe(1, warm=every(failing("connection")), cold=every(failing("connection")))
    )
    assert cause.death_of_the_engine(story.evidence()) is None
