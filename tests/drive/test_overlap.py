"""Calls that overlap or are given up, against the fake server: healthy, and with planted races."""

from __future__ import annotations

import pytest

from harness.check import judge
from harness.check.result import Cause, CellResult, Verdict
from harness.history.observations import Call
from harness.history.recording import Recording
from tests.drive.conftest import Driver

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

SLOW = "slow:20"
"""Milliseconds a step, so that requests are still running when the second call comes."""
BEGINNING = "  - probe: baseline\n  - null_transition: {}\n"
OVERTAKEN = """\
  - start_requests: {name: held}
  - concurrently:
      - sleep: {level: 1, mode: wait}
      - wake_up: {begins: {while_pending: sleep}}
  - finish_requests: {name: held, expect: ended}
  - wake_up: {}
  - probe: after
"""
RESET_BETWEEN = """\
  - start_requests: {name: held}
  - concurrently:
      - pause: {mode: wait, clear_cache: false}
      - reset_prefix_cache: {running_requests: true, begins: {while_pending: pause}}
      - resume: {begins: {after: 0.1}}
  - resume: {}
  - finish_requests: {name: held, expect: ended}
  - probe: after
"""
LEAVING = """\
  - start_requests: {name: held, count: 2}
  - start_requests: {name: leaving, count: 1}
  - concurrently:
      - pause: {mode: wait, clear_cache: false}
      - cancel_requests: {name: leaving, begins: {while_pending: pause}}
  - resume: {}
  - finish_requests: {name: held, expect: ended}
  - probe: after
"""


def unconfirmed(recording: Recording) -> list[str]:
    """Everything that contradicted a step."""
    return [words for end in recording.step_ends.values() for words in end.unconfirmed]


def missed(recording: Recording) -> list[str]:
    """Every moment that did not come."""
    return [words for end in recording.step_ends.values() for words in end.missed]


async def run(driver: Driver, script: str, misbehave: str = "") -> tuple[Recording, CellResult]:
    """What a script recorded, and what is made of it."""
    recording = await driver.run_script(BEGINNING + script, misbehave=f"{SLOW},{misbehave}")
    return recording, judge(recording)


@pytest.mark.parametrize("script", [OVERTAKEN, RESET_BETWEEN, LEAVING], ids=["wake-up", "reset", "leaving"])
async def test_a_healthy_engine_is_clean_whatever_overlaps(driver: Driver, script: str) -> None:
    """Every moment comes, some order explains what is seen, and every answer holds."""
    recording, result = await run(driver, script)
    assert (unconfirmed(recording), missed(recording)) == ([], [])
    assert (result.verdict, result.cause) == (Verdict.CLEAN, None), result.reason


async def test_a_wake_up_that_overtakes_a_pending_sleep_is_found(driver: Driver) -> None:
    """Memory is asleep and scheduling goes on: no order of the two calls leaves that behind."""
    recording, result = await run(driver, OVERTAKEN, "wake-up-overtakes-sleep")
    (words,) = unconfirmed(recording)
    assert words == (
        "no order of the overlapping calls POST /sleep, POST /wake_up explains what is seen: "
        "/is_paused says false, expected true"
    )
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SCHEDULER), result.reason


async def test_a_reset_that_is_lost_between_two_calls_is_found(driver: Driver) -> None:
    """The engine says that its prefix cache is forgotten, and reads from it all the same."""
    _, result = await run(driver, RESET_BETWEEN, "reset-lost-between-calls")
    assert result.cause is Cause.STALE_PREFIX_CACHE, result.reason
    assert "came from the prefix cache although /reset_prefix_cache had emptied" in result.reason


async def test_a_request_that_a_pause_and_a_cancel_drop_is_found(driver: Driver) -> None:
    """It never ends, whatever its client waits for."""
    recording, result = await run(driver, LEAVING, "pause-and-cancel-drop-request")
    failures = [each.end.failure for each in recording.requests if each.end and each.end.failure]
    assert len(failures) == 1
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER), result.reason
    assert "the engine stood still" in result.reason


async def test_a_call_that_is_given_up_may_take_effect_or_not(driver: Driver) -> None:
    """The engine is seen asleep by the time, or as before, and both are explained."""
    recording, result = await run(
        driver,
        "  - start_requests: {name: held}\n"
        "  - sleep: {level: 1, mode: wait, abandon: {after: 0.1}}\n"
        "  - wake_up: {}\n"
        "  - finish_requests: {name: held, expect: ended}\n"
        "  - probe: after\n",
    )
    (call,) = [call for call in recording.calls if call.path == "/sleep" and call.step == "4"]
    assert call.failure is not None
    assert (call.failure.kind, call.failure.message) == ("abandoned", "its client gave it up after 0.1 s")
    assert unconfirmed(recording) == []
    assert result.verdict is Verdict.CLEAN, result.reason


async def test_a_call_that_must_fail_and_succeeds_contradicts_among_others_too(driver: Driver) -> None:
    """It is refused or it is a finding, in whatever order it came."""
    recording, result = await run(
        driver,
        "  - concurrently:\n"
        "      - pause: {must_fail: true}\n"
        "      - release_kv_cache_memory: {must_fail: true}\n"
        "  - wake_up: {}\n"
        "  - probe: after\n",
    )
    assert "POST /pause succeeded, but should have been refused" in unconfirmed(recording)
    assert result.verdict is Verdict.DEGRADED


async def test_a_refusal_that_no_order_explains_contradicts(driver: Driver) -> None:
    """Waking up cannot be refused, before a reset or after it."""
    recording, _ = await run(
        driver,
        "  - sleep: {level: 1}\n"
        "  - concurrently:\n"
        "      - wake_up: {}\n"
        "      - reset_prefix_cache: {}\n"
        "  - wake_up: {}\n"
        "  - probe: after\n",
        "wake-up-fails",
    )
    assert any(
        words.startswith("POST /wake_up was refused: ")
        and words.endswith("no order of the calls explains that")
        for words in unconfirmed(recording)
    )


async def test_calls_that_did_not_meet_put_nothing_to_the_test(driver: Driver) -> None:
    """A partner that had been answered before makes a cell inconclusive, and says so."""
    recording, result = await run(
        driver,
        "  - concurrently:\n"
        "      - sleep: {level: 1}\n"
        "      - wake_up: {begins: {while_pending: sleep}}\n"
        "  - wake_up: {}\n"
        "  - probe: after\n",
    )
    assert unconfirmed(recording) == []
    assert missed(recording) == [
        "wake_up was to be made while sleep was pending, which had been answered by then"
    ]
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "which had been answered by then" in result.reason


async def test_a_moment_can_be_a_first_token(driver: Driver) -> None:
    """The call is made when every request of the group has one, and not before."""
    recording, _ = await run(
        driver,
        "  - start_requests: {name: held, until: sent}\n"
        "  - concurrently:\n"
        "      - pause: {mode: keep, clear_cache: false, begins: {after_first_token: held}}\n"
        "      - reset_mm_cache: {}\n"
        "  - resume: {}\n"
        "  - finish_requests: {name: held, expect: same}\n"
        "  - probe: after\n",
    )
    assert (unconfirmed(recording), missed(recording)) == ([], [])
    (pause,) = [call for call in recording.calls if call.path == "/pause"]
    first_tokens = [each.running.t for each in recording.requests if each.running]
    assert len(first_tokens) == len(recording.requests)
    assert begun(pause) > max(first_tokens)


def begun(call: Call) -> float:
    """When it was made."""
    return call.t - call.seconds
