"""Carries out state transitions, and confirms each by observations that do not come from the call itself."""

from __future__ import annotations

from harness.drive.session import ALL_TAGS, OBSERVATION_DEADLINE_S, Session
from harness.history.events import Observation
from harness.scenario.schema import SleepOptions, WakeOptions
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult

_STATE_OF_LEVEL = {1: "weights_offloaded", 2: "discard_all"}


async def sleep(session: Session, options: SleepOptions) -> list[str]:
    """Put the engine to sleep; return in words what contradicts that it sleeps."""
    await session.observe("before")
    result = session.call_recorded(
        await lifecycle.sleep(
            session.connection.http,
            level=options.level,
            mode=options.mode,
            deadline_s=session.scenario.deadlines.transition,
        )
    )
    if options.level > 0 and result.ok:
        session.asleep = ALL_TAGS
        session.sleep_level = max(session.sleep_level, options.level)
    seen = await session.observe("after")
    # Level 0 pauses scheduling only; versions disagree on whether that counts as sleeping.
    contradictions = _contradictions(session, seen) if options.level > 0 else []
    return _failed(result) + contradictions


async def wake_up(session: Session, options: WakeOptions) -> list[str]:
    """Wake the engine, whole or by tag; return in words what contradicts that it is awake."""
    await session.observe("before")
    result = session.call_recorded(
        await lifecycle.wake_up(
            session.connection.http, tags=options.tags, deadline_s=session.scenario.deadlines.transition
        )
    )
    if result.ok:
        session.asleep = session.asleep - frozenset(options.tags) if options.tags else frozenset()
    if not session.asleep:
        session.sleep_level = 0
    return _failed(result) + _contradictions(session, await session.observe("after"))


async def reload_weights(session: Session) -> list[str]:
    """Load the engine's own weights again."""
    deadline = session.scenario.deadlines.transition
    return await _simple(
        session, await lifecycle.reload_weights(session.connection.http, deadline_s=deadline)
    )


async def reset_prefix_cache(session: Session) -> list[str]:
    """Forget every cached prefix."""
    return await _simple(
        session,
        await lifecycle.reset_prefix_cache(session.connection.http, deadline_s=OBSERVATION_DEADLINE_S),
    )


async def _simple(session: Session, result: CallResult) -> list[str]:
    session.call_recorded(result)
    await session.observe("after")
    return _failed(result)


def _failed(result: CallResult) -> list[str]:
    return [] if result.error is None else [f"{result.method} {result.path}: {result.error.message}"]


def _contradictions(session: Session, seen: Observation) -> list[str]:
    expected = bool(session.asleep)
    found = []
    if seen.is_sleeping is not None and seen.is_sleeping is not expected:
        found.append(f"/is_sleeping says {str(seen.is_sleeping).lower()}, expected {str(expected).lower()}")
    state = _STATE_OF_LEVEL[session.sleep_level] if session.asleep else "awake"
    # While only some tags are awake the versions do not agree on what the gauge shows.
    whole = session.asleep in (frozenset(), ALL_TAGS)
    if whole and seen.sleep_state is not None and seen.sleep_state != state:
        found.append(f"vllm:engine_sleep_state says {seen.sleep_state}, expected {state}")
    return found
