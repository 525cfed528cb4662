"""What is said to the engine for each step, and what is made of its replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import httpx
import pytest
from pydantic import TypeAdapter

from harness.drive.transitions import change_engine, forget_pictures, reload_loaded_weights
from harness.history.observations import Call, Observation
from harness.scenario.engine_state import ALL_TAGS, EngineState
from harness.scenario.steps.calls import Transition
from tests.drive.scripted_engine import Stage, stage

pytestmark = pytest.mark.anyio

TRANSITIONS: TypeAdapter[Transition] = TypeAdapter(Transition)

SLEEP: Mapping[str, object] = {"sleep": {"level": 1}}
WAKE: Mapping[str, object] = {"wake_up": {}}


def step(written: Mapping[str, object]) -> Transition:
    """A step as a scenario writes it."""
    return TRANSITIONS.validate_python(written)


@pytest.fixture
async def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A session on an engine that does as it is told."""
    async with stage(tmp_path, monkeypatch) as staged:
        yield staged


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ({"sleep": {"level": 2, "mode": "keep"}}, "/sleep?level=2&mode=keep"),
        ({"wake_up": {"tags": ["weights"]}}, "/wake_up?tags=weights"),
        ({"pause": {"mode": "wait", "clear_cache": False}}, "/pause?mode=wait&clear_cache=false"),
        ({"resume": {}}, "/resume"),
        ({"release_kv_cache_memory": {}}, "/release_kv_cache_memory"),
        ({"reload_weights": {}}, "/collective_rpc"),
        ({"init_weight_transfer": {}}, "/init_weight_transfer_engine"),
        ({"start_weight_update": {}}, "/start_weight_update"),
        ({"update_weights": {"weights": "own"}}, "/update_weights"),
        ({"load_adapter": {"name": "x", "adapter": "first"}}, "/v1/load_lora_adapter"),
        ({"unload_adapter": {"name": "x"}}, "/v1/unload_lora_adapter"),
        ({"reset_prefix_cache": {"external": True}}, "/reset_prefix_cache?reset_external=true"),
        ({"reset_mm_cache": {}}, "/reset_mm_cache"),
        ({"reset_encoder_cache": {}}, "/reset_encoder_cache"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
async def test_each_step_is_one_call_between_two_looks(
    on: Stage, written: dict[str, object], called: str
) -> None:
    """What is sent is what the scenario says, and the history holds it beside what was seen around it."""
    await change_engine(on.session, step(written))
    assert on.engine.calls == [called]
    kinds = [event.moment if isinstance(event, Observation) else event.kind for event in on.events]
    assert kinds == ["before", "call", "after"]


async def test_a_healthy_engine_contradicts_nothing(on: Stage) -> None:
    """It sleeps and wakes, and the model of it follows."""
    assert await change_engine(on.session, step(SLEEP)) == []
    assert on.session.state.asleep == ALL_TAGS
    assert await change_engine(on.session, step(WAKE)) == []
    assert on.session.state == EngineState()


async def test_an_acknowledged_sleep_that_did_nothing_is_contradicted(on: Stage) -> None:
    """A 200 proves nothing: three looks say that it is awake."""
    on.engine.told["/sleep"] = lambda _: httpx.Response(200, json={})
    assert await change_engine(on.session, step(SLEEP)) == [
        "/is_sleeping says false, expected true",
        "/is_paused says false, expected true",
        "vllm:engine_sleep_state says awake, expected weights_offloaded",
    ]


def _hangs(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("nothing came", request=request)


def _breaks(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("connection reset", request=request)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda _: httpx.Response(500, json={"error": {"message": "no memory"}}), "no memory"),
        (_hangs, "no answer within 60 s"),
        (_breaks, "ReadError: connection reset"),
    ],
)
async def test_a_wake_up_that_fails_is_told_with_what_still_sleeps(
    on: Stage, reply: Callable[[httpx.Request], httpx.Response], said: str
) -> None:
    """What must be is what the script asked for, whatever the call answered; nothing more is asked of it."""
    on.session.scenario = on.session.scenario.model_copy(
        update={"deadlines": on.session.scenario.deadlines.model_copy(update={"transition": 60.0})}
    )
    await change_engine(on.session, step(SLEEP))
    on.engine.told["/wake_up"] = reply
    told = await change_engine(on.session, step(WAKE))
    assert told[0] == f"POST /wake_up: {said}"
    assert "/is_sleeping says true, expected false" in told
    assert on.session.rests_on
    (failed,) = (event for event in on.events if isinstance(event, Call) and event.failure)
    assert failed.path == "/wake_up"


async def test_a_wake_up_that_wakes_half_is_told_in_one_sentence(on: Stage) -> None:
    """The call said that it had worked: that is the finding, not each place where it shows."""
    await change_engine(on.session, step(SLEEP))
    on.engine.told["/wake_up"] = lambda _: httpx.Response(200, json={})
    (told,) = await change_engine(on.session, step(WAKE))
    assert told == (
        "POST /wake_up answered 200 and did not wake everything: /is_sleeping says true, expected false"
    )


@pytest.mark.parametrize(
    ("status", "told"),
    [(400, []), (200, ["POST /collective_rpc succeeded, but should have been refused"])],
)
async def test_what_must_be_refused_is(on: Stage, status: int, told: list[str]) -> None:
    """A refusal is right there, and success contradicts."""
    on.engine.told["/collective_rpc"] = lambda _: httpx.Response(status, json={})
    written = {"reload_weights": {"weights": "missing", "must_fail": True}}
    assert await change_engine(on.session, step(written)) == told
    assert on.session.state.weights == "own"


@pytest.mark.parametrize(
    ("named", "told"), [("v1", []), ("default", ["/weight_info says default, expected v1"]), (None, [])]
)
async def test_an_update_is_confirmed_by_the_version(on: Stage, named: str | None, told: list[str]) -> None:
    """That the call succeeded proves nothing; an engine that does not tell is not accused."""
    on.engine.told["/weight_info"] = lambda _: httpx.Response(200, json={"weight_version": named})
    assert await change_engine(on.session, step({"finish_weight_update": {"version": "v1"}})) == told
    assert on.session.state.weight_version == "v1"


async def test_what_arrives_is_recorded_as_it_was_sent(on: Stage) -> None:
    """A report can send it again: what has parts is no word."""
    arriving = {"weights": "own", "chunk": 2, "chunks": 3, "leave_out": ["*.mlp.*"]}
    await change_engine(on.session, step({"update_weights": arriving}))
    (call,) = [event for event in on.events if isinstance(event, Call) and event.path == "/update_weights"]
    assert call.parameters == {
        "update_info": {"folder": "/own", "chunk": 2, "chunks": 3, "leave_out": ["*.mlp.*"]}
    }


async def test_a_release_without_an_endpoint_is_left_as_it_was(on: Stage) -> None:
    """What it does not know it cannot have done: the model does not pretend that it paused."""
    on.engine.told["/pause"] = lambda _: httpx.Response(404, json={"detail": "Not Found"})
    told = await change_engine(on.session, step({"pause": {}}))
    assert told == ["POST /pause: Not Found"]
    assert on.session.state == EngineState()


async def test_a_reset_that_says_it_failed_did(on: Stage) -> None:
    """It answers 200 all the same."""
    on.engine.told["/reset_prefix_cache"] = lambda _: httpx.Response(200, json={"success": False})
    assert await change_engine(on.session, step({"reset_prefix_cache": {}})) == [
        "/reset_prefix_cache reported that it failed"
    ]


async def test_own_weights_are_named_once_others_were_loaded(on: Stage) -> None:
    """The engine loads from the last path it was given, so the control after a missing path names its own."""
    bodies: list[bytes] = []

    def remember(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200, json={})

    on.engine.told["/collective_rpc"] = remember
    await reload_loaded_weights(on.session)
    await change_engine(on.session, step({"reload_weights": {"weights": "missing", "must_fail": True}}))
    await reload_loaded_weights(on.session)
    assert [b"weights_path" in body for body in bodies] == [False, True, True]
    assert b'"/own"' in bodies[-1]


@pytest.mark.parametrize(
    ("version", "called"),
    [(None, ["/reset_mm_cache", "/reset_encoder_cache"]), ("0.9.0", [])],
)
async def test_pictures_are_forgotten_as_far_as_a_release_keeps_them(
    on: Stage, version: str | None, called: list[str]
) -> None:
    """An old one is not asked for what it has not."""
    on.session.vllm_version = version
    assert await forget_pictures(on.session) == []
    assert on.engine.calls[: len(called)] == called
