"""Carries out state transitions, and confirms each by observations that do not come from the call itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from harness.drive.engine_state import EngineState
from harness.drive.session import OBSERVATION_DEADLINE_S, Session
from harness.errors import StorageError
from harness.scenario.schema import (
    LoadAdapterOptions,
    PauseOptions,
    ReleaseOptions,
    ReloadOptions,
    ResetPrefixCacheOptions,
    SleepOptions,
    UnloadAdapterOptions,
    WakeOptions,
)
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.versions import Feature


async def sleep(session: Session, options: SleepOptions) -> list[str]:
    """Put the engine to sleep; return in words what contradicts that it sleeps."""
    call = partial(lifecycle.sleep, session.connection.http, level=options.level, mode=options.mode)
    return await _carry_out(session, call, then=lambda: session.state.after_sleep(options.level))


async def wake_up(session: Session, options: WakeOptions) -> list[str]:
    """Wake the engine, whole or by tag; return in words what contradicts that it is awake."""
    call = partial(lifecycle.wake_up, session.connection.http, tags=options.tags)
    return await _carry_out(session, call, then=lambda: session.state.after_wake_up(options.tags))


async def pause(session: Session, options: PauseOptions) -> list[str]:
    """Stop scheduling; return in words what contradicts that it rests."""
    call = partial(
        lifecycle.pause, session.connection.http, mode=options.mode, clear_cache=options.clear_cache
    )
    return await _carry_out(session, call, then=session.state.after_pause)


async def resume(session: Session) -> list[str]:
    """Go on after a pause; return in words what contradicts that it goes on."""
    call = partial(lifecycle.resume, session.connection.http)
    return await _carry_out(session, call, then=session.state.after_resume)


async def release_kv_cache_memory(session: Session, options: ReleaseOptions) -> list[str]:
    """Give the KV cache's memory back; return in words what contradicts that it is gone."""
    call = partial(lifecycle.release_kv_cache_memory, session.connection.http)
    return await _carry_out(
        session,
        call,
        then=session.state.after_release_of_kv_cache,
        must_fail=options.must_fail,
    )


async def reload_weights(session: Session, options: ReloadOptions) -> list[str]:
    """Load weights into the running engine."""
    path = session.path_of_weights(options.weights)
    result = await lifecycle.reload_weights(
        session.connection.http, path=path, deadline_s=session.scenario.deadlines.transition
    )
    if result.ok and options.weights != "missing":
        session.weights = options.weights
    return await _confirm(session, result, must_fail=options.must_fail)


async def reload_loaded_weights(session: Session) -> list[str]:
    """Load once more what ought to be loaded: the model's own weights, or the variant's."""
    return await reload_weights(session, ReloadOptions(weights=session.weights))


async def load_adapter(session: Session, options: LoadAdapterOptions) -> list[str]:
    """Load a LoRA adapter, or put another in its place.

    Raises:
        StorageError: its files cannot be put at the path it is loaded from.
    """
    try:
        path = session.variants.adapter(
            options.adapter, at_path_of=options.name if options.same_path else None
        )
    except OSError as error:
        raise StorageError(f"the adapter's files cannot be written: {error}") from error
    result = await lifecycle.load_lora_adapter(
        session.connection.http,
        name=options.name,
        path=str(path),
        load_inplace=options.in_place,
        deadline_s=session.scenario.deadlines.transition,
    )
    return await _confirm(session, result, must_fail=options.must_fail)


async def unload_adapter(session: Session, options: UnloadAdapterOptions) -> list[str]:
    """Unload a LoRA adapter."""
    result = await lifecycle.unload_lora_adapter(
        session.connection.http, name=options.name, deadline_s=session.scenario.deadlines.transition
    )
    return await _confirm(session, result, must_fail=options.must_fail)


async def reset_prefix_cache(session: Session, options: ResetPrefixCacheOptions | None = None) -> list[str]:
    """Forget every cached prefix; return in words what contradicts that it is forgotten."""
    wanted = options or ResetPrefixCacheOptions()
    result = await lifecycle.reset_prefix_cache(
        session.connection.http,
        running_requests=wanted.running_requests,
        external=wanted.external,
        deadline_s=OBSERVATION_DEADLINE_S,
    )
    refused = (
        ["/reset_prefix_cache answered that it did not succeed"] if result.field("success") is False else []
    )
    return await _confirm(session, result) + refused


async def reset_mm_cache(session: Session) -> list[str]:
    """Forget preprocessed multi-modal inputs."""
    return await _confirm(
        session, await lifecycle.reset_mm_cache(session.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
    )


async def reset_encoder_cache(session: Session) -> list[str]:
    """Forget what encoders computed."""
    return await _confirm(
        session,
        await lifecycle.reset_encoder_cache(session.connection.http, deadline_s=OBSERVATION_DEADLINE_S),
    )


async def forget_pictures(session: Session) -> list[str]:
    """Forget both what was preprocessed and what encoders made of it, as far as the release keeps them."""
    unconfirmed: list[str] = []
    if not session.lacks(Feature.RESET_MM_CACHE):
        unconfirmed += await reset_mm_cache(session)
    if not session.lacks(Feature.RESET_ENCODER_CACHE):
        unconfirmed += await reset_encoder_cache(session)
    return unconfirmed


async def _carry_out(
    session: Session,
    call: Callable[..., Awaitable[CallResult]],
    *,
    then: Callable[[], EngineState],
    must_fail: bool = False,
) -> list[str]:
    """Look at the engine, call it, take over the state it must be in, and look again."""
    await session.observe("before")
    result = await call(deadline_s=session.scenario.deadlines.transition)
    if result.ok:
        session.state = then()
    return await _confirm(session, result, must_fail=must_fail)


async def _confirm(session: Session, result: CallResult, *, must_fail: bool = False) -> list[str]:
    """Record a call that has ended; return in words what contradicts what it was to do."""
    session.call_recorded(result)
    seen = await session.observe("after")
    sleeping_pauses = not session.lacks(Feature.LEVEL_ZERO)
    contradictions = session.state.contradictions(seen, sleeping_pauses=sleeping_pauses)
    return [*_failed(result, must_fail=must_fail), *contradictions]


def _failed(result: CallResult, *, must_fail: bool) -> list[str]:
    call = f"{result.method} {result.path}"
    if result.error is None:
        return [f"{call} succeeded, and had to be refused"] if must_fail else []
    refused = must_fail and result.error.kind == "http"
    return [] if refused else [f"{call}: {result.error.message}"]
