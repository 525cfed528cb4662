"""Carries out state transitions, and confirms each by observations that do not come from the call itself."""

from __future__ import annotations

import anyio

from harness.drive.confirming import rests_on, unconfirmed, wrong_version
from harness.drive.machine_load import machine_seen
from harness.drive.session import OBSERVATION_DEADLINE_S, Session
from harness.errors import StorageError
from harness.scenario.script import Transition
from harness.scenario.steps.base import NoOptions
from harness.scenario.steps.caches import (
    ResetEncoderCache,
    ResetMmCache,
    ResetPrefixCache,
    ResetPrefixCacheOptions,
)
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
    before = session.state
    async with machine_seen(session):
        result = session.call_recorded(await _make_call_remembered(session, step))
    if not result.unavailable:
        session.state = step.leaves(before)
    seen = await session.observe("after")
    session.rests_on = rests_on(session.state, seen)
    found = unconfirmed(
        step,
        result,
        before=before,
        after=session.state,
        seen=seen,
        sleeping_pauses=not session.lacks(Feature.LEVEL_ZERO),
    )
    if isinstance(step, FinishWeightUpdate):
        found += wrong_version(await session.weight_version(), session.state.weight_version)
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
        unconfirmed += await change_engine(session, ResetMmCache(reset_mm_cache=NoOptions()))
    if not session.lacks(Feature.RESET_ENCODER_CACHE):
        unconfirmed += await change_engine(session, ResetEncoderCache(reset_encoder_cache=NoOptions()))
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


async def make_call(session: Session, step: Transition) -> CallResult:  # noqa: C901, PLR0911, PLR0912 - one case a step
    """Make the one call that a step is, and return what it answered."""
    http, deadline_s = session.connection.http, session.scenario.deadlines.transition
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
            return await _load_adapter(session, options)
        case UnloadAdapter(unload_adapter=options):
            return await lifecycle.unload_lora_adapter(http, name=options.name, deadline_s=deadline_s)
        case ResetPrefixCache(reset_prefix_cache=options):
            return await lifecycle.reset_prefix_cache(
                http,
                running_requests=options.running_requests,
                external=options.external,
                deadline_s=OBSERVATION_DEADLINE_S,
            )
        case ResetMmCache():
            return await lifecycle.reset_mm_cache(http, deadline_s=OBSERVATION_DEADLINE_S)
        case ResetEncoderCache():
            return await lifecycle.reset_encoder_cache(http, deadline_s=OBSERVATION_DEADLINE_S)
        case AbortRequests():
            return await lifecycle.abort_requests(http, deadline_s=deadline_s)


async def _load_adapter(session: Session, options: LoadAdapterOptions) -> CallResult:
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
        deadline_s=session.scenario.deadlines.transition,
    )
