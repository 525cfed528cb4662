"""What contradicts that the engine is as the model of it says."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.drive.confirming import contradictions, unconfirmed
from harness.history.observations import Observation
from harness.scenario.engine_state import EngineState
from harness.scenario.steps.lifecycle import WakeOptions, WakeUp
from harness.scenario.steps.loading import UnloadAdapter, UnloadAdapterOptions
from harness.vllm_api.calls import CallResult
from tests.fake_vllm.engine import Engine
from tests.fake_vllm.options import Options

SEEN = Observation(
    t=0.0,
    step=None,
    moment="after",
    is_sleeping=False,
    is_paused=False,
    is_healthy=True,
    sleep_state="awake",
    resident_bytes=None,
    device_bytes=None,
)

tags = st.lists(st.sampled_from(["weights", "kv_cache", "scheduling"]), max_size=3, unique=True)
calls = st.one_of(
    st.tuples(st.just("sleep"), st.sampled_from([0, 1, 2])),
    st.tuples(st.just("wake_up"), tags.map(tuple)),
    st.tuples(st.just("pause"), st.none()),
    st.tuples(st.just("resume"), st.none()),
)


def gauge(engine: Engine) -> str:
    """What the sleep-state gauge of an engine shows."""
    asleep, level = engine.sleep_gauge
    return ("paused", "weights_offloaded", "discard_all")[level] if asleep else "awake"


def seen(engine: Engine) -> Observation:
    """An engine looked at from outside."""
    return SEEN.model_copy(
        update={
            "is_sleeping": engine.is_sleeping,
            "is_paused": engine.is_paused,
            "sleep_state": gauge(engine),
        }
    )


@given(script=st.lists(calls, max_size=8))
def test_a_healthy_engine_never_contradicts(script: list[tuple[str, object]]) -> None:
    """Whatever legal calls come in whatever order, an engine that keeps vLLM's rules is not accused."""

    async def follow() -> None:
        engine, state = Engine(Options(blocks=4)), EngineState()
        for name, argument in script:
            if name == "sleep" and isinstance(argument, int):
                await engine.sleep(argument, "abort")
                state = state.after_sleep(argument)
            elif name == "wake_up" and isinstance(argument, tuple):
                if not set(argument) - {"scheduling"} <= state.asleep:
                    continue  # vLLM then wakes nothing, which is what a step is accused of
                await engine.wake_up(argument)
                state = state.after_wake_up(argument)
            elif name == "pause":
                await engine.pause("abort", clear_cache=True)
                state = replace(state, paused=True)
            elif name == "resume":
                engine.resume()
                state = replace(state, paused=False)
            assert list(contradictions(state, seen(engine), sleeping_pauses=True)) == []

    anyio.run(follow)


ASLEEP = EngineState().after_sleep(1)


@pytest.mark.parametrize(
    ("state", "observed", "contradiction"),
    [
        (EngineState(), {"is_sleeping": True}, "/is_sleeping says true, expected false"),
        (EngineState(), {"is_paused": True}, "/is_paused says true, expected false"),
        (EngineState(), {"is_healthy": False}, "/health says false, expected true"),
        (
            EngineState(),
            {"sleep_state": "discard_all"},
            "vllm:engine_sleep_state says discard_all, expected awake",
        ),
        (
            ASLEEP,
            {"is_sleeping": True, "is_paused": True},
            "vllm:engine_sleep_state says awake, expected weights_offloaded",
        ),
        (EngineState(paused=True), {"is_paused": False}, "/is_paused says false, expected true"),
        (
            EngineState().after_load("x", "first"),
            {"served": ("model",)},
            "/v1/models does not list 'x', expected it to be loaded",
        ),
    ],
)
def test_what_cannot_be_is_told(state: EngineState, observed: dict[str, object], contradiction: str) -> None:
    """Each observation that does not fit is said with what it should have been."""
    looked = SEEN.model_copy(update=observed)
    assert list(contradictions(state, looked, sleeping_pauses=True)) == [contradiction]


def test_what_was_not_seen_contradicts_nothing() -> None:
    """A release that lacks an endpoint is not accused by it."""
    nothing = SEEN.model_copy(
        update={"is_sleeping": None, "is_paused": None, "is_healthy": None, "sleep_state": None}
    )
    assert list(contradictions(ASLEEP, nothing, sleeping_pauses=True)) == []


def test_older_releases_sleep_without_pausing() -> None:
    """Before sleeping paused the scheduler, ``/is_paused`` knew of ``/pause`` alone."""
    looked = SEEN.model_copy(update={"is_sleeping": True, "sleep_state": "weights_offloaded"})
    assert list(contradictions(ASLEEP, looked, sleeping_pauses=False)) == []
    assert list(contradictions(ASLEEP, looked, sleeping_pauses=True)) != []


def test_a_tag_that_is_awake_already_may_be_named_again() -> None:
    """What is named must be awake afterwards, whether or not it was asleep."""
    weights_awake = ASLEEP.after_wake_up(["weights"])
    assert weights_awake.asleep == {"kv_cache"}
    assert weights_awake.after_wake_up(["weights", "kv_cache"]) == EngineState()
    assert weights_awake.after_wake_up(["kv_cache"]) == EngineState()


@pytest.mark.parametrize(
    ("before", "said"),
    [(ASLEEP.after_wake_up(["weights"]), "woke nothing"), (ASLEEP, "did not wake everything")],
)
def test_a_200_that_wakes_nothing_is_said_in_one_sentence(before: EngineState, said: str) -> None:
    """Of an engine that sleeps on, neither the gauge nor the scheduler adds anything."""
    looked = SEEN.model_copy(update={"is_sleeping": True, "is_paused": True})
    called = CallResult(
        method="POST", path="/wake_up", params=(), payload=None, status=200, body=None, seconds=0, error=None
    )
    assert unconfirmed(
        WakeUp(wake_up=WakeOptions()),
        called,
        before=before,
        after=before.after_wake_up(()),
        seen=looked,
        sleeping_pauses=True,
    ) == [f"POST /wake_up answered 200 and {said}: /is_sleeping says true, expected false"]


def test_an_adapter_that_is_still_listed_was_not_unloaded() -> None:
    """Whatever the call answered; one that is gone, and the model itself, are no contradiction."""
    loaded = EngineState().after_load("x", "first")
    called = CallResult(
        method="POST", path="/v1/unload_lora_adapter", params=(), payload=None, status=200, body=None,
        seconds=0, error=None,
    )  # fmt: skip

    def said(*served: str) -> list[str]:
        return unconfirmed(
            UnloadAdapter(unload_adapter=UnloadAdapterOptions(name="x")),
            called,
            before=loaded,
            after=loaded.after_unload("x"),
            seen=SEEN.model_copy(update={"served": served}),
            sleeping_pauses=True,
        )

    assert said("model", "x") == ["/v1/models lists 'x', expected it to be gone"]
    assert said("model") == []


def test_released_memory_is_asleep_until_woken() -> None:
    """The gauge shows a released KV cache like a sleep of level 0."""
    released = EngineState(paused=True).after_release_of_kv_cache()
    looked = SEEN.model_copy(update={"is_sleeping": True, "is_paused": True, "sleep_state": "paused"})
    assert list(contradictions(released, looked, sleeping_pauses=True)) == []
    assert replace(released, paused=False).after_wake_up(()) == EngineState()
