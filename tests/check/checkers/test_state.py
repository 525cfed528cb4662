"""Whether the engine was in the state it claimed."""

from __future__ import annotations

import pytest

from harness.check.checkers import state
from harness.check.result import Strength
from harness.check.wording import describe
from harness.history.observations import StepFinished, StepStarted
from tests.check.stories import Story, clean_story
from tests.history.begun import step_started


def test_a_confirmed_cycle_has_no_finding() -> None:
    """Observations that agree with every step are fine."""
    assert state.check(clean_story().evidence()) == ()


def test_what_the_driver_found_contradicted_is_reported() -> None:
    """Every contradiction recorded with a step is a finding in its own words, and no other is added."""
    words = ("vllm:engine_sleep_state says awake", "/is_sleeping says false, expected true")
    story = Story().baseline().sleep(asleep=False, unconfirmed=words).wake().probe()
    findings = state.check(story.evidence())
    assert [finding.message for finding in findings] == [f"sleep level 1: {word}" for word in words]
    assert {finding.strength for finding in findings} == {Strength.PROOF}
    assert findings[0].evidence == {"step": "2"}
    assert findings[0].checker == "state"


def test_a_sleep_that_does_not_sleep_is_found() -> None:
    """An engine that says it is awake after a sleep contradicts the 200 it gave."""
    [finding] = state.check(Story().baseline().sleep(asleep=False).wake().probe().evidence())
    assert finding.message == "sleep level 1: /is_sleeping says false"


def test_a_wake_up_that_does_not_wake_is_found() -> None:
    """An engine that says it sleeps after a full wake-up has not woken."""
    [finding] = state.check(Story().baseline().sleep().wake(asleep=True).probe().evidence())
    assert finding.message == "wake up: /is_sleeping says true"


def test_an_unobserved_state_contradicts_nothing() -> None:
    """A version that cannot tell whether it sleeps is not accused."""
    assert state.check(Story().baseline().sleep(asleep=None).wake(asleep=None).evidence()) == ()


def test_level_zero_need_not_count_as_sleep() -> None:
    """Versions do not agree whether a paused scheduler is a sleeping engine."""
    for asleep in (True, False):
        assert state.check(Story().baseline().sleep(0, asleep=asleep).evidence()) == ()


def test_a_partial_wake_up_need_not_be_awake() -> None:
    """Waking only some tags leaves the engine asleep."""
    story = Story().baseline().sleep()
    step = step_started(t=story.now(), step="w", action="wake_up", options={"tags": ["weights"]}, cycle=1)
    story.tell(step)
    story.observe("w", "after", asleep=True)
    assert state.check(story.evidence()) == ()


def test_what_was_seen_before_a_step_says_nothing_about_it() -> None:
    """Only observations after the step count."""
    story = Story().baseline().sleep()
    story.tell(step_started(t=story.now(), step="w", action="wake_up", options={}, cycle=1))
    story.observe("w", "before", asleep=True)
    assert state.check(story.evidence()) == ()


def test_the_cycle_is_named() -> None:
    """A finding within a repetition says in which cycle it was."""
    story = Story().baseline()
    story.tell(step_started(t=story.now(), step="3.2/1", action="sleep", options={"level": 2}, cycle=2))
    story.observe("3.2/1", "after", asleep=False)
    [finding] = state.check(story.evidence())
    assert finding.message == "sleep level 2, cycle 2: /is_sleeping says false"
    assert finding.cycle == 2


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_missing_endpoint_is_a_lack_of_evidence(status: int) -> None:
    """A server without the endpoint is not accused: it was never put to the test."""
    story = Story().baseline().sleep(status=status, asleep=False, unconfirmed=("POST /sleep: no",)).probe()
    assert state.check(story.evidence()) == ()
    assert state.unavailable_calls(story.evidence()) == (("2", f"POST /sleep answered {status}"),)


def test_a_failing_endpoint_is_a_finding() -> None:
    """A sleep that ends in an error is what was observed, and is reported."""
    story = Story().baseline().sleep(status=500, unconfirmed=("POST /sleep: 500",)).probe()
    assert [finding.message for finding in state.check(story.evidence())] == [
        "sleep level 1: POST /sleep: 500"
    ]
    assert state.unavailable_calls(story.evidence()) == ()


def test_a_control_may_lack_its_endpoint() -> None:
    """Old versions have no endpoint for some control questions; the script itself did not need it."""
    story = clean_story()
    last = story.recording().steps[-1]
    assert last.action == "probe"
    story.call(last.step, "/weight_checker", {}, status=404)
    assert state.unavailable_calls(story.evidence()) == ()


@pytest.mark.parametrize(
    ("action", "options", "words"),
    [
        ("sleep", {"level": 2, "mode": None}, "sleep level 2"),
        ("sleep", {"level": 1, "mode": "keep"}, "sleep level 1 mode keep"),
        ("wake_up", {"tags": []}, "wake up"),
        ("wake_up", {"tags": ["weights", "kv_cache"]}, "wake up tags weights+kv_cache"),
        ("wake_up", {"tags": ["kv_cache"]}, "wake up tags kv_cache"),
        ("reload_weights", {}, "reload weights"),
        ("reload_weights", {"weights": "other"}, "reload other weights"),
        ("reload_weights", {"must_fail": True, "weights": "missing"}, "reload missing weights (must fail)"),
        ("load_adapter", {"name": "x", "adapter": "first"}, "load first adapter x"),
        (
            "load_adapter",
            {"must_fail": False, "name": "x", "adapter": "second", "in_place": True},
            "load second adapter x in place",
        ),
        ("unload_adapter", {"must_fail": False, "name": "x"}, "unload adapter x"),
        ("cancel_requests", {"name": "flood"}, "cancel requests flood"),
        ("reset_prefix_cache", {"running_requests": True}, "reset prefix cache running requests"),
        ("resume", {}, "resume"),
    ],
)
def test_steps_in_words(action: str, options: dict[str, int | str | list[str] | None], words: str) -> None:
    """They read as one says them, and options that were left out are not mentioned."""
    step = StepStarted.model_validate({"t": 0, "step": "1", "action": action, "options": options, "cycle": 0})
    assert describe(step) == words


@pytest.mark.parametrize("options", [{}, {"level": None}])
def test_a_sleep_of_no_named_level_must_sleep(options: dict[str, int | None]) -> None:
    """The server's default level is a sleep like any other."""
    story = Story().baseline()
    story.tell(
        StepStarted.model_validate({"t": 9, "step": "9", "action": "sleep", "options": options, "cycle": 0})
    )
    story.observe("9", "after", asleep=False)
    [finding] = state.check(story.evidence())
    assert finding.message == "sleep: /is_sleeping says false"


def test_a_call_outside_the_script_is_not_needed_by_it() -> None:
    """A call of no step, or of a step nobody began, is not what the script asked for."""
    story = clean_story()
    story.call("nowhere", "/sleep", {}, status=404)
    story.events.append(story.events[-1].model_copy(update={"step": None}))
    assert state.unavailable_calls(story.evidence()) == ()


def test_every_missing_endpoint_is_named() -> None:
    """One after the other, each with its step."""
    story = Story().baseline().sleep(status=404).wake(status=501)
    assert state.unavailable_calls(story.evidence()) == (
        ("2", "POST /sleep answered 404"),
        ("3", "POST /wake_up answered 501"),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "wait", "clear_cache": False}, "pause mode wait clear cache false"),
        ({"mode": None, "clear_cache": True}, "pause clear cache"),
        ({"must_fail": False, "same_path": True}, "pause same path"),
    ],
)
def test_options_that_are_off_are_not_told(options: dict[str, object], words: str) -> None:
    """Only what is not as it is by default stands in the words for a step."""
    step = StepStarted.model_validate(
        {"t": 0, "step": "1", "action": "pause", "options": options, "cycle": 0}
    )
    assert describe(step) == words


def test_a_refusal_that_was_due_is_no_lack() -> None:
    """A 404 that the script asked for does not mean that the server has no such endpoint."""
    for must_fail, lacks in ((True, 0), (False, 1)):
        story = Story().baseline()
        step = story._begin("unload_adapter", must_fail=must_fail)
        story.call(step, "/v1/unload_lora_adapter", {"lora_name": "x"}, status=404)
        assert len(state.unavailable_calls(story.evidence())) == lacks


def test_calls_that_did_not_meet_are_an_obstacle() -> None:
    """A script that wanted two calls in flight at once put nothing to the test, and says so."""
    story = Story().baseline()
    calls = [{"sleep": {"level": 1}}, {"wake_up": {"begins": {"while_pending": "sleep"}}}]
    story.tell(
        step_started(t=story.now(), step="c", action="concurrently", options={"calls": calls}, cycle=0)
    )
    story.tell(StepFinished(t=story.now(), step="c", seconds=1, missed=("it was too late",)))
    assert list(state.obstacles(story.evidence())) == [
        "concurrently sleep level 1 and wake up begins while pending sleep: it was too late"
    ]
