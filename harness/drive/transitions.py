"""Carries out state transitions, and confirms each by observations that do not come from the call itself."""

from __future__ import annotations

import anyio

from harness.drive.confirming import rests_on, unconfirmed, wrong_version
from harness.drive.machine_load import machine_seen
from harness.drive.session import OBSERVATION_DEADLINE_S, Session
from harness.errors import StorageError
from harness.scenario.steps.base import CallOptions
from harness.scenario.steps.caches import (
    ResetEncoderCache,
    ResetMmCache,
    ResetPrefixCache,
    ResetPrefixCacheOptions,
)
from harness.scenario.steps.calls import Transition
from harness.scenario.steps.lifecycle import Pause, ReleaseKvCacheMemory, Resume, Sleep, WakeUp
from harness.scenario.steps.loading import (
    LoadAdapter,
    LoadAdapterOptions,
    ReloadOptions,
    ReloadWeights,
    UnloadAdapter,
)
from harness.scenario.steps.requests import AbortRequests
from harness.scenario.steps.updating import (
    FinishWeightUpdate,
    InitWeightTransfer,
    StartWeightUpdate,
    UpdateWeights,
)
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.versions import Feature


async def change_engine(session: Session, step: Transition) -> list[str]:
    """Look at the engine, make the step's call, and look again.

    What the engine must be like then follows from the script alone, whatever the call answered.

    Returns:
        In words what contradicts that the step did what it must.

    Raises:
        StorageError: an adapter's files cannot be put at the path it is loaded from.
    """
    await session.observe("before")
    befores = session.states
    async with machine_seen(session):
        result = session.call_recorded(await _make_call_remembered(session, step))
    seen = await session.observe("after")
    ways = [(before, before if result.unavailable else step.leaves(before)) for before in befores]
    against = [
        unconfirmed(
            step,
            result,
            before=before,
            after=after,
            seen=seen,
            sleeping_pauses=not session.lacks(Feature.LEVEL_ZERO),
        )
        for before, after in ways
    ]
    found = min(against, key=len)
    # Where nothing is against some of the ways, it went one of these.
    went = [after for (_, after), words in zip(ways, against, strict=True) if found or not words]
    session.states = tuple(each for number, each in enumerate(went) if each not in went[:number])
    session.rests_on = rests_on(session.states, seen)
    if isinstance(step, FinishWeightUpdate):
        found = found + wrong_version(await session.weight_version(), session.state.weight_version)
    return found


async def reset_prefix_cache(session: Session) -> list[str]:
    """Forget every cached prefix; return in words what contradicts that it is forgotten."""
    return await change_engine(session, ResetPrefixCache(reset_prefix_cache=ResetPrefixCacheOptions()))


async def reload_loaded_weights(session: Session) -> list[str]:
    """Load once more what ought to be loaded: the model's own weights, or the variant's."""
    options = ReloadOptions(weights=session.state.weights)
    return await change_engine(session, ReloadWeights(reload_weights=options))


async def forget_pictures(session: Session) -> list[str]:
    """Forget both what was preprocessed and what encoders made of it, as far as the release keeps them."""
    unconfirmed: list[str] = []
    if not session.lacks(Feature.RESET_MM_CACHE):
        unconfirmed += await change_engine(session, ResetMmCache(reset_mm_cache=CallOptions()))
    if not session.lacks(Feature.RESET_ENCODER_CACHE):
        unconfirmed += await change_engine(session, ResetEncoderCache(reset_encoder_cache=CallOptions()))
    return unconfirmed


async def _make_call_remembered(session: Session, step: Transition) -> CallResult:
    """Make the call; on a server that is not ours it is known afterwards, interrupted or not, what it did."""
    if session.foresee is None or session.settle is None:
        return await make_call(session, step)
    session.foresee(step.changed(session.state))
    with anyio.CancelScope(shield=True):
        result = await make_call(session, step)
    if result.ok:
        session.settle(step.changed(session.state))
    return result


async def make_call(  # noqa: C901, PLR0911, PLR0912 - one case a step
    session: Session, step: Transition, *, within_s: float | None = None
) -> CallResult:
    """Make the one call that a step is, and return what it answered; ``within_s`` is a shorter deadline."""
    http = session.connection.http
    deadline_s = session.scenario.deadlines.transition if within_s is None else within_s
    quick_s = min(OBSERVATION_DEADLINE_S, deadline_s)
    match step:
        case Sleep(sleep=options):
            return await lifecycle.sleep(http, level=options.level, mode=options.mode, deadline_s=deadline_s)
        case WakeUp(wake_up=options):
            return await lifecycle.wake_up(http, tags=options.tags, deadline_s=deadline_s)
        case Pause(pause=options):
            return await lifecycle.pause(
                http, mode=options.mode, clear_cache=options.clear_cache, deadline_s=deadline_s
            )
        case Resume():
            return await lifecycle.resume(http, deadline_s=deadline_s)
        case ReleaseKvCacheMemory():
            return await lifecycle.release_kv_cache_memory(http, deadline_s=deadline_s)
        case ReloadWeights(reload_weights=options):
            path = session.path_of_weights(options.weights)
            return await lifecycle.reload_weights(http, path=path, deadline_s=deadline_s)
        case InitWeightTransfer():
            return await lifecycle.init_weight_transfer_engine(http, deadline_s=deadline_s)
        case StartWeightUpdate():
            return await lifecycle.start_weight_update(http, deadline_s=deadline_s)
        case UpdateWeights(update_weights=options):
            return await lifecycle.update_weights(
                http,
                folder=session.folder_of_weights(options.weights),
                chunk=options.chunk or 1,
                chunks=options.chunks or 1,
                leave_out=options.leave_out,
                deadline_s=deadline_s,
            )
        case FinishWeightUpdate(finish_weight_update=options):
            return await lifecycle.finish_weight_update(http, version=options.version, deadline_s=deadline_s)
        case LoadAdapter(load_adapter=options):
            return await _load_adapter(session, options, deadline_s=deadline_s)
        case UnloadAdapter(unload_adapter=options):
            return await lifecycle.unload_lora_adapter(http, name=options.name, deadline_s=deadline_s)
        case ResetPrefixCache(reset_prefix_cache=options):
            return await lifecycle.reset_prefix_cache(
                http,
                running_requests=options.running_requests,
                external=options.external,
                deadline_s=quick_s,
            )
        case ResetMmCache():
            return await lifecycle.reset_mm_cache(http, deadline_s=quick_s)
        case ResetEncoderCache():
            return await lifecycle.reset_encoder_cache(http, deadline_s=quick_s)
        case AbortRequests():
            return await lifecycle.abort_requests(http, deadline_s=deadline_s)


async def _load_adapter(session: Session, options: LoadAdapterOptions, *, deadline_s: float) -> CallResult:
    try:
        path = session.variants.adapter(
            options.adapter, at_path_of=options.name if options.same_path else None
        )
    except OSError as error:
        raise StorageError(f"the adapter's files cannot be written: {error}") from error
    return await lifecycle.load_lora_adapter(
        session.connection.http,
        name=options.name,
        path=str(path),
        load_inplace=options.in_place,
        deadline_s=deadline_s,
    )
