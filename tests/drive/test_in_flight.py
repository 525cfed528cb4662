"""Requests that run beside the script, across what is done to the engine meanwhile."""

from __future__ import annotations

import anyio
import pytest

from harness.check import judge
from harness.check.result import Cause, CellResult, Verdict
from harness.drive.cell import run_cell
from harness.history.events import Event
from harness.history.passes import RequestRunning
from harness.history.recording import Recording, load_recording
from tests.drive.conftest import Driver

pytestmark = pytest.mark.anyio

SLOW = "slow:100"
"""Milliseconds a token: an answer of 24 is still being given when the next step begins, and long after."""


ONCE = "evidence: [warm]"
"""Each probe asks once: what is asked of them here is how requests fare beside them."""


def script(*steps: str) -> str:
    """A whole script out of what stands between the noise's measurement and the last probe."""
    return "\n".join(["- probe: baseline", "- null_transition: {}", *steps, "- probe: after"])


def kept(recording: Recording) -> set[tuple[str, ...]]:
    """The finish reasons of the requests, each once."""
    return {request.end.finish_reasons for request in recording.requests if request.end}


def complaints(result: CellResult) -> list[str]:
    """What was found about requests in flight."""
    return [finding.message for finding in result.findings if finding.checker == "conservation"]


async def test_a_kept_stream_goes_on_where_it_was(driver: Driver) -> None:
    """Paused by a sleep that keeps requests, each stream ends with the undisturbed answer."""
    steps = (
        "- start_requests: {name: held}",
        "- sleep: {level: 1, mode: keep}",
        "- wake_up: {}",
        "- finish_requests: {name: held, expect: same}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps), misbehave=SLOW)
    result = judge(recording)
    assert (result.verdict, complaints(result)) == (Verdict.CLEAN, []), result.reason
    assert len(recording.requests) == 4
    asleep = next(
        call.t for call in recording.calls if call.path == "/sleep" and call.parameters["level"] == "1"
    )
    assert all(request.running and request.running.t < asleep for request in recording.requests)
    assert all(request.end and request.end.t > asleep for request in recording.requests)


@pytest.mark.cell
async def test_streams_of_an_adapter_go_on_as_that_adapter_beside_those_of_the_base_model(
    driver: Driver,
) -> None:
    """Each is held to the baseline of whom it asks, and those two are not the same."""
    steps = (
        "- load_adapter: {name: x, adapter: first}",
        "- probe: {name: first, adapter: x, baseline: true, differs_from: [baseline]}",
        "- start_requests: {name: adapted, adapter: x, same_as: first}",
        "- start_requests: {name: plain}",
        "- sleep: {level: 1, mode: keep}",
        "- wake_up: {}",
        "- finish_requests: {name: adapted}",
        "- finish_requests: {name: plain}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps), misbehave=SLOW)
    result = judge(recording)
    assert (result.verdict, complaints(result)) == (Verdict.CLEAN, []), result.reason
    answers = {
        (request.start.group, request.start.prompt): request.end.token_ids
        for request in recording.requests
        if request.end
    }
    prompts = {prompt for _, prompt in answers}
    assert len(answers) == 2 * len(prompts) == 8
    assert any(answers["adapted", prompt] != answers["plain", prompt] for prompt in prompts)


async def test_a_sleep_that_aborts_ends_every_stream(driver: Driver) -> None:
    """Each has the finish reason ``abort`` and the beginning of its answer."""
    steps = (
        "- start_requests: {name: held, count: 2}",
        "- sleep: {level: 1, mode: abort}",
        "- finish_requests: {name: held, expect: aborted}",
        "- wake_up: {}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps), misbehave=SLOW)
    assert judge(recording).verdict is Verdict.CLEAN
    assert kept(recording) == {("abort",)}
    assert len(recording.requests) == 2


@pytest.mark.cell
async def test_requests_that_are_aborted_end_although_the_engine_goes_on(driver: Driver) -> None:
    """Without sleep or pause each has the finish reason ``abort`` and the beginning of its answer."""
    steps = (
        "- start_requests: {name: held}",
        "- abort_requests: {}",
        "- finish_requests: {name: held, expect: aborted}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps), misbehave=SLOW)
    assert judge(recording).verdict is Verdict.CLEAN
    assert kept(recording) == {("abort",)}


@pytest.mark.cell
async def test_a_sleep_that_waits_lets_every_stream_end(driver: Driver) -> None:
    """The engine falls asleep only after the last token."""
    steps = (
        "- start_requests: {name: held}",
        "- sleep: {level: 1, mode: wait}",
        "- finish_requests: {name: held, expect: same}",
        "- wake_up: {}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps), misbehave=SLOW)
    assert judge(recording).verdict is Verdict.CLEAN
    assert kept(recording) <= {("length",), ("stop",)}


@pytest.mark.parametrize(
    "wake",
    [
        ["{}"],
        pytest.param(["{tags: [weights]}", "{tags: [kv_cache]}"], marks=pytest.mark.cell),
    ],
)
async def test_what_is_sent_to_a_sleeper_is_answered_after_waking(driver: Driver, wake: list[str]) -> None:
    """Requests wait for a sleeping engine, and for a half-awake one, without holding up the script."""
    steps = (
        "- sleep: {level: 1}",
        "- start_requests: {name: queued}",
        *(f"- wake_up: {tags}" for tags in wake),
        "- finish_requests: {name: queued, expect: same}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps))
    assert judge(recording).verdict is Verdict.CLEAN
    woken = max(call.t for call in recording.calls if call.path == "/wake_up")
    assert all(request.running and request.running.t > woken for request in recording.requests)


@pytest.mark.cell
async def test_clients_that_leave_are_forgotten(driver: Driver) -> None:
    """Their connections close, the engine counts none of them any more, and nobody is accused."""
    steps = (
        "- start_requests: {name: left}",
        "- sleep: {level: 0, mode: keep}",
        "- cancel_requests: {name: left}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps, "- wake_up: {}"), misbehave=SLOW)
    result = judge(recording)
    assert (result.verdict, complaints(result)) == (Verdict.CLEAN, []), result.reason
    assert all(request.end and request.end.client_left for request in recording.requests)


@pytest.mark.cell
async def test_a_request_that_is_given_up_too_soon_accuses_nobody(driver: Driver) -> None:
    """The script's patience is no proof: inconclusive, with what was seen meanwhile."""
    steps = (
        "- sleep: {level: 1}",
        "- start_requests: {name: queued}",
        "- finish_requests: {name: queued, expect: same, within: 0.2}",
        "- wake_up: {}",
    )
    recording = await driver.run(more=ONCE, script=script(*steps))
    result = judge(recording)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "4 requests had no answer in time" in result.reason
    assert len(recording.waits) == 1


@pytest.mark.cell
async def test_a_request_that_never_ends_is_given_up_and_found(driver: Driver) -> None:
    """An engine that does not go on after waking loses its requests: scheduler or protocol."""
    steps = (
        "- sleep: {level: 1}",
        "- start_requests: {name: queued}",
        "- finish_requests: {name: queued, expect: same, within: 60}",
        "- wake_up: {}",
    )
    result = judge(await driver.run(more=ONCE, script=script(*steps)))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER)
    assert "the engine stood still" in complaints(result)[0]


@pytest.mark.cell
async def test_requests_that_end_too_early_put_nothing_to_the_test(driver: Driver) -> None:
    """Where all had ended before the sleep, the cell says so instead of calling it clean."""
    steps = (
        "- start_requests: {name: quick}",
        "- sleep: {level: 1, mode: keep}",
        "- wake_up: {}",
        "- finish_requests: {name: quick, expect: same}",
    )
    result = judge(await driver.run(more=ONCE, script=script(*steps)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "ended before the transition" in result.reason


@pytest.mark.cell
async def test_one_that_should_have_been_aborted_is_found(driver: Driver) -> None:
    """A sleep that lets requests run on although it said it would abort them."""
    steps = (
        "- start_requests: {name: held}",
        "- sleep: {level: 1, mode: keep}",
        "- wake_up: {}",
        "- finish_requests: {name: held, expect: aborted}",
    )
    result = judge(await driver.run(more=ONCE, script=script(*steps), misbehave=SLOW))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER)
    assert "should have been aborted" in complaints(result)[0]


async def test_nothing_runs_on_when_a_cell_is_interrupted(driver: Driver) -> None:
    """Cancelling the cell ends its requests, and each end is in the history."""
    steps = ("- start_requests: {name: held}", "- finish_requests: {name: held}", "- probe: after")
    cell = driver.cell(script="\n".join(["- probe: {name: baseline, evidence: [warm]}", *steps]))
    job = driver.job(cell, env={"FAKE_VLLM": "slow:1000"})

    async with anyio.create_task_group() as group:

        def interrupt(event: Event) -> None:
            if isinstance(event, RequestRunning):
                group.cancel_scope.cancel()

        await run_cell(job, driver.runtime, watcher=interrupt)

    recording = load_recording(job.directory)
    assert recording.failure is not None
    assert recording.failure.interrupted
    assert [len(request.ends) for request in recording.requests] == [1] * 4
