"""The calls that a sequence may be made of, one by one or each documented procedure in one piece."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal, TypeAlias

from harness.scenario.engine_state import AdapterName, Tag, Weights
from harness.scenario.script import Step
from harness.scenario.steps.asking import Probe, ProbeOptions
from harness.scenario.steps.base import CallOptions
from harness.scenario.steps.caches import ResetPrefixCache, ResetPrefixCacheOptions
from harness.scenario.steps.lifecycle import (
    Mode,
    Pause,
    PauseOptions,
    ReleaseKvCacheMemory,
    ReleaseOptions,
    Resume,
    Sleep,
    SleepOptions,
    WakeOptions,
    WakeUp,
)
from harness.scenario.steps.loading import (
    LoadAdapter,
    LoadAdapterOptions,
    ReloadOptions,
    ReloadWeights,
    UnloadAdapter,
    UnloadAdapterOptions,
)
from harness.scenario.steps.requests import (
    AbortRequests,
    CancelRequests,
    CancelRequestsOptions,
    FinishRequests,
    FinishRequestsOptions,
    StartRequests,
    StartRequestsOptions,
)


class Modifier(Enum):
    """What becomes of the next call, if that may be."""

    TOGETHER = "together"
    """It is made together with the call before it."""
    WHILE_PENDING = "while pending"
    """It is made as soon as the server has the call before it, where that waits for requests."""
    GIVEN_UP = "given up"
    """Its client gives it up."""


Move: TypeAlias = tuple[Step | Modifier, ...]
"""Steps that are taken together; most moves are one."""

REQUESTS = "held"
LEAVING = "leaving"
"""One beside them whose client leaves."""
ADAPTER = "tuned"
OTHER_WEIGHTS = "other-weights"
"""The baseline of the weights' variant."""
ADAPTER_BASELINES: Mapping[AdapterName, str] = {"first": "first-adapter", "second": "second-adapter"}
FINISHED_WITHIN_S = 30.0


def _sleep(level: Literal[0, 1, 2], mode: Mode | None = None) -> Sleep:
    return Sleep(sleep=SleepOptions(level=level, mode=mode))


def wake(*tags: Tag | Literal["scheduling", "unknown"]) -> WakeUp:
    """Wake these tags, or everything."""
    return WakeUp(wake_up=WakeOptions(tags=tags))


def reload(weights: Weights) -> ReloadWeights:
    """Load the model's own weights, or those of the variant."""
    return ReloadWeights(reload_weights=ReloadOptions(weights=weights))


def _pause(mode: Mode | None = None, *, clear_cache: bool | None = None) -> Pause:
    return Pause(pause=PauseOptions(mode=mode, clear_cache=clear_cache))


def _load(adapter: AdapterName, *, in_place: bool = False, same_path: bool = False) -> LoadAdapter:
    options = LoadAdapterOptions(name=ADAPTER, adapter=adapter, in_place=in_place, same_path=same_path)
    return LoadAdapter(load_adapter=options)


PROBE = Probe(probe=ProbeOptions(name="after", evidence=("warm",)))
RESET = ResetPrefixCache(reset_prefix_cache=ResetPrefixCacheOptions())
RESUME = Resume(resume=CallOptions())
_START = StartRequests(start_requests=StartRequestsOptions(name=REQUESTS))
FINISH = FinishRequests(finish_requests=FinishRequestsOptions(name=REQUESTS, within=FINISHED_WITHIN_S))
_CANCEL = CancelRequests(cancel_requests=CancelRequestsOptions(name=REQUESTS))
_START_LEAVING = StartRequests(start_requests=StartRequestsOptions(name=LEAVING, count=1))
_LEAVE = CancelRequests(cancel_requests=CancelRequestsOptions(name=LEAVING))
_ABORT = AbortRequests(abort_requests=CallOptions())
_UNLOAD = UnloadAdapter(unload_adapter=UnloadAdapterOptions(name=ADAPTER))

_SINGLE: tuple[Step, ...] = (
    PROBE,
    _sleep(1),
    wake(),
    _sleep(2),
    reload("own"),
    RESET,
    _pause(),
    RESUME,
    _sleep(0),
    wake("weights"),
    wake("kv_cache"),
    ReleaseKvCacheMemory(release_kv_cache_memory=ReleaseOptions()),
    reload("other"),
    _START,
    FINISH,
    _CANCEL,
    _sleep(1, "keep"),
    _sleep(0, "keep"),
    _sleep(1, "wait"),
    _sleep(2, "keep"),
    _pause("keep"),
    _pause("keep", clear_cache=False),
    _pause("wait"),
    _load("first"),
    _load("second"),
    _UNLOAD,
    _load("second", in_place=True),
    _load("first", same_path=True),
    _load("second", same_path=True),
    _load("first", in_place=True, same_path=True),
    _load("second", in_place=True, same_path=True),
    _ABORT,
)

LEGAL_MOVES: tuple[tuple[Step, ...], ...] = tuple((step,) for step in _SINGLE)
"""Every call that the API offers, the plainest first: shrinking goes that way."""

_RACES: tuple[Move, ...] = (
    (_START, _sleep(1, "wait"), Modifier.WHILE_PENDING),
    (_START, _pause("wait", clear_cache=False), Modifier.WHILE_PENDING),
    (_START, _sleep(0, "wait"), Modifier.WHILE_PENDING),
    (_START, _sleep(1), Modifier.TOGETHER),
    (_START, _START_LEAVING, _pause("wait", clear_cache=False), Modifier.WHILE_PENDING, _LEAVE),
    (_START, _START_LEAVING, _sleep(1, "wait"), Modifier.WHILE_PENDING, _LEAVE),
)
"""Requests that run, and a call that lasts as long as they do: whatever is drawn next comes meanwhile."""

OVERLAPPING_MOVES: tuple[Move, ...] = (
    *LEGAL_MOVES,
    *((modifier,) for modifier in Modifier),
    *_RACES,
    (wake("weights", "weights"),),
    (wake("kv_cache", "weights", "kv_cache"),),
    (wake("scheduling", "scheduling"),),
    (wake("unknown"),),
    (wake("weights", "kv_cache", "unknown"),),
)
"""The same, two or more in flight at once, or given up by their clients, and odd values that are accepted."""

SAFE_MOVES: tuple[tuple[Step, ...], ...] = (
    (PROBE,),
    (_sleep(1), wake()),
    (_sleep(0), wake()),
    (_sleep(2), wake("weights"), reload("own"), wake("kv_cache")),
    (_pause(), RESUME),
    (_sleep(1), wake("weights"), wake("kv_cache")),
    (RESET,),
    (_pause(), reload("other"), RESET, RESUME),
    (_pause(), reload("own"), RESET, RESUME),
    (_START, FINISH),
    (_START, _sleep(1), FINISH, wake()),
    (_START, _sleep(1, "wait"), FINISH, wake()),
    (_START, _sleep(1, "keep"), wake(), FINISH),
    (_START, _sleep(0, "keep"), wake(), FINISH),
    (_START, _pause("keep"), RESUME, FINISH),
    (_START, _pause("wait"), FINISH, RESUME),
    (_sleep(1), _START, wake(), FINISH),
    (_pause(), _START, RESUME, FINISH),
)
"""Only what vLLM documents as safe, each documented procedure in one piece."""

_TOPICS: Mapping[str, tuple[type, ...]] = {
    "adapters": (LoadAdapter, UnloadAdapter),
    "weights": (ReloadWeights, ResetPrefixCache),
    "requests": (StartRequests, FinishRequests, CancelRequests, AbortRequests),
    "pausing": (Pause, Resume, ReleaseKvCacheMemory),
    "sleeping": (Sleep, WakeUp),
}


_RANKS = {step: rank for rank, steps in enumerate(_TOPICS.values()) for step in steps}


OVERLAPPING = "overlapping"
"""What modifiers are about."""


def topic_of(move: Move) -> str | None:
    """What a move is about; of several things, the rarest.  None where it only asks."""
    if any(isinstance(step, Modifier) for step in move):
        return OVERLAPPING
    ranks = [_RANKS[type(step)] for step in move if type(step) in _RANKS]
    return tuple(_TOPICS)[min(ranks)] if ranks else None
