"""What the recorded calls did to the engine's memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.check import lifecycle_calls
from harness.history.event_base import CallFailure
from harness.history.observations import Call
from tests.check.stories import Story


def called(
    path: str, parameters: dict[str, object], *, status: int | None = 200, failed: bool = False
) -> Story:
    """A story of one call, at time 1."""
    story = Story()
    failure = CallFailure(kind="timeout", message="no answer", status=None) if failed else None
    story.tell(
        Call.model_validate(
            {
                "t": story.now(),
                "step": "1",
                "method": "POST",
                "path": path,
                "parameters": parameters,
                "status": status,
                "body": None,
                "seconds": 0.1,
                "failure": failure,
            }
        )
    )
    return story


def slept(story: Story) -> list[int]:
    """The level of every sleep that was carried out."""
    return [sleep.level for sleep in lifecycle_calls.sleeps(story.recording())]


@pytest.mark.parametrize(
    ("parameters", "level"), [({}, 1), ({"level": "0"}, 0), ({"level": 2}, 2), ({"level": None}, 1)]
)
def test_the_level_is_the_callers_or_the_servers_default(parameters: dict[str, object], level: int) -> None:
    """A call that names no level puts vLLM to sleep at level 1."""
    assert slept(called("/sleep", parameters)) == [level]


@pytest.mark.parametrize(
    ("status", "failed", "counts"),
    [
        (200, False, True),
        (204, False, True),
        (299, False, True),
        (300, False, False),
        (500, False, False),
        (None, True, False),
        (None, False, True),
        (200, True, False),
    ],
)
def test_a_sleep_the_server_did_not_acknowledge_is_none(
    *, status: int | None, failed: bool, counts: bool
) -> None:
    """Only a whole answer with a status of success counts; a method that returns has none."""
    assert slept(called("/sleep", {}, status=status, failed=failed)) == ([1] if counts else [])


def test_a_sleep_knows_its_time_and_step() -> None:
    """What a checker says about a sleep can be followed back to the call."""
    [sleep] = lifecycle_calls.sleeps(called("/sleep", {"level": "1"}).recording())
    assert (sleep.t, sleep.level, sleep.step) == (1.0, 1, "1")


def test_other_calls_are_no_sleeps() -> None:
    """Asking whether the engine sleeps does not put it to sleep."""
    assert slept(called("/is_sleeping", {"level": "1"})) == []


def test_the_last_emptying_is_the_latest_before_a_moment() -> None:
    """A sleep at level 0 keeps the cache, a later sleep has not happened yet, nor has one at that moment."""
    story = Story()
    for level in (1, 2, 0, 1):
        story.sleep(level)
    recording = story.recording()
    first, second, kept, last = lifecycle_calls.sleeps(recording)
    found = [
        lifecycle_calls.last_emptying(recording, before=t) for t in (first.t, second.t, last.t, last.t + 1)
    ]
    assert [call and call.t for call in found] == [None, first.t, second.t, last.t]
    assert kept.level == 0


@pytest.mark.parametrize(
    ("path", "parameters", "body", "empties"),
    [
        ("/release_kv_cache_memory", {}, None, True),
        ("/reset_prefix_cache", {}, {"success": True}, True),
        ("/reset_prefix_cache", {}, {"success": False}, False),
        ("/reset_prefix_cache", {}, None, False),
        ("/pause", {}, None, True),
        ("/pause", {"clear_cache": "true", "mode": "wait"}, None, True),
        ("/pause", {"clear_cache": "false"}, None, False),
        ("/pause", {"mode": "keep"}, None, False),
        ("/resume", {}, None, False),
        ("/v1/load_lora_adapter", {"load_inplace": "True"}, None, False),
        ("/collective_rpc", {"method": "reload_weights"}, None, False),
    ],
)
def test_what_empties_the_cache(
    *, path: str, parameters: dict[str, object], body: object, empties: bool
) -> None:
    """Some calls do by themselves; after others, vLLM leaves it to the caller to reset the cache."""
    story = called(path, parameters)
    [call] = story.recording().calls
    story.events[-1] = call.model_copy(update={"body": body})
    assert (lifecycle_calls.last_emptying(story.recording(), before=2.0) is not None) is empties


def reloading(
    method: str, *, status: int = 200, before_the_sleep: bool = False, path: str = "/collective_rpc"
) -> bool:
    """Whether weights are missing after a sleep at level 2 and this call."""
    story = Story()
    if not before_the_sleep:
        story.sleep(2).wake()
    story.call("9", path, {"method": method}, status=status)
    if before_the_sleep:
        story.sleep(2).wake()
    return lifecycle_calls.weights_missing(story.recording(), at=story.now())


def test_weights_are_missing_until_they_are_loaded_again() -> None:
    """Either way of bringing weights back counts, if it succeeds, and if it comes after the sleep."""
    assert not reloading("reload_weights")
    assert not reloading("update_weights")
    assert reloading("reload_weights", status=500)
    assert reloading("reload_weights", before_the_sleep=True)


def test_calls_of_one_moment_count_in_their_order() -> None:
    """A guard tells what a program did between two checks under one time; a transfer loads weights, too."""
    story = Story().sleep(2).wake()
    story.call("9", "/finish_weight_update", {"weight_version": "b"}, status=200)
    recording = story.recording()
    at_once = tuple(call.model_copy(update={"t": 1.0}) for call in recording.calls)
    assert not lifecycle_calls.weights_missing(replace(recording, calls=at_once), at=2.0)
    assert lifecycle_calls.weights_missing(replace(recording, calls=at_once[::-1]), at=2.0)


def test_other_calls_bring_no_weights_back() -> None:
    """Neither another method of the workers nor a call that looks like one."""
    assert reloading("reset_mm_cache")
    assert reloading("reload_weights", path="/tokenize")


@pytest.mark.parametrize(("level", "missing"), [(0, False), (1, False), (2, True)])
def test_only_level_two_loses_weights(level: int, *, missing: bool) -> None:
    """Level 1 keeps a copy of them."""
    story = Story().sleep(level)
    assert lifecycle_calls.weights_missing(story.recording(), at=story.now()) is missing


def test_weights_are_missing_from_the_sleep_on() -> None:
    """At the very moment of the sleep they are there, and a reload at the moment asked about is too late."""
    story = Story().sleep(2)
    [sleep] = lifecycle_calls.sleeps(story.recording())
    assert not lifecycle_calls.weights_missing(story.recording(), at=sleep.t)
    story.reload()
    reload = story.recording().calls[-1]
    assert lifecycle_calls.weights_missing(story.recording(), at=reload.t)
    assert not lifecycle_calls.weights_missing(story.recording(), at=reload.t + 1)


def test_the_last_loss_of_weights_counts() -> None:
    """A reload between two sleeps at level 2 does not help after the second."""
    story = Story().sleep(2).wake().reload().sleep(2).wake()
    assert lifecycle_calls.weights_missing(story.recording(), at=story.now())


@pytest.mark.parametrize(
    ("wakes", "gone"),
    [([], True), ([{}], False), ([{"tags": "weights"}], True), ([{"tags": ["weights", "kv_cache"]}], False)],
)
@pytest.mark.parametrize("path", ["/sleep", "/release_kv_cache_memory"])
def test_the_kv_cache_is_gone_until_it_is_woken(
    path: str, wakes: list[dict[str, object]], *, gone: bool
) -> None:
    """Whole or by its tag."""
    story = Story()
    story.call("1", path, {})
    for parameters in wakes:
        story.call("2", "/wake_up", {})
        story.events[-1] = story.events[-1].model_copy(update={"parameters": parameters})
    assert lifecycle_calls.kv_cache_is_gone(story.recording(), at=story.now()) is gone
    assert not lifecycle_calls.kv_cache_is_gone(story.recording(), at=0.0)


def test_a_refused_release_keeps_the_kv_cache() -> None:
    """And so does a sleep at level 0."""
    story = Story().sleep(0)
    story.call("2", "/release_kv_cache_memory", {}, status=500)
    assert not lifecycle_calls.kv_cache_is_gone(story.recording(), at=story.now())


@pytest.mark.parametrize(
    ("path", "parameters", "loads"),
    [
        ("/collective_rpc", {"method": "reload_weights"}, True),
        ("/collective_rpc", {"method": "save_sharded_state"}, False),
        ("/update_weights", {}, True),
        ("/wake_up", {}, False),
    ],
)
def test_weights_that_arrive_are_there_again(
    path: str, parameters: dict[str, object], *, loads: bool
) -> None:
    """Whether workers are told to load them by name, or an engine in its user's process is."""
    story = called("/sleep", {"level": 2}, status=None)
    [*_, call] = called(path, parameters, status=None).events
    story.tell(call.model_copy(update={"t": story.now()}))
    assert lifecycle_calls.weights_missing(story.recording(), at=9.0) is not loads
