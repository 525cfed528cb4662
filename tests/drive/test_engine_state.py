"""What an engine's state must be after the calls it acknowledged."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.drive.engine_state import EngineState
from harness.history.events import Observation
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
                engine.wake_up(argument)
                state = state.after_wake_up(argument)
            elif name == "pause":
                await engine.pause("abort", clear_cache=True)
                state = state.after_pause()
            elif name == "resume":
                engine.resume()
                state = state.after_resume()
            assert list(state.contradictions(seen(engine), sleeping_pauses=True)) == []

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
        (EngineState().after_pause(), {"is_paused": False}, "/is_paused says false, expected true"),
    ],
)
def test_what_cannot_be_is_told(state: EngineState, observed: dict[str, object], contradiction: str) -> None:
    """Each observation that does not fit is said with what it should have been."""
    looked = SEEN.model_copy(update=observed)
    assert list(state.contradictions(looked, sleeping_pauses=True)) == [contradiction]


def test_what_was_not_seen_contradicts_nothing() -> None:
    """A release that lacks an endpoint is not accused by it."""
    nothing = SEEN.model_copy(
        update={"is_sleeping": None, "is_paused": None, "is_healthy": None, "sleep_state": None}
    )
    assert list(ASLEEP.contradictions(nothing, sleeping_pauses=True)) == []


def test_older_releases_sleep_without_pausing() -> None:
    """Before sleeping paused the scheduler, ``/is_paused`` knew of ``/pause`` alone."""
    looked = SEEN.model_copy(update={"is_sleeping": True, "sleep_state": "weights_offloaded"})
    assert list(ASLEEP.contradictions(looked, sleeping_pauses=False)) == []
    assert list(ASLEEP.contradictions(looked, sleeping_pauses=True)) != []


def test_waking_what_is_not_asleep_changes_nothing() -> None:
    """One tag that is awake already, and the call does nothing (vllm/v1/executor/abstract.py)."""
    weights_awake = ASLEEP.after_wake_up(["weights"])
    assert weights_awake.asleep == {"kv_cache"}
    assert weights_awake.after_wake_up(["weights", "kv_cache"]) == weights_awake
    assert weights_awake.after_wake_up(["kv_cache"]) == EngineState()


def test_released_memory_is_asleep_until_woken() -> None:
    """The gauge shows a released KV cache like a sleep of level 0."""
    released = EngineState().after_pause().after_release_of_kv_cache()
    looked = SEEN.model_copy(update={"is_sleeping": True, "is_paused": True, "sleep_state": "paused"})
    assert list(released.contradictions(looked, sleeping_pauses=True)) == []
    assert replace(released, paused=False).after_wake_up(()) == EngineState()
