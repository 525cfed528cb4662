"""Every step that is one call to the engine."""

from __future__ import annotations

from typing import TypeAlias

from harness.scenario.steps.caches import ResetEncoderCache, ResetMmCache, ResetPrefixCache
from harness.scenario.steps.lifecycle import Pause, ReleaseKvCacheMemory, Resume, Sleep, WakeUp
from harness.scenario.steps.loading import LoadAdapter, ReloadWeights, UnloadAdapter
from harness.scenario.steps.requests import AbortRequests
from harness.scenario.steps.updating import (
    FinishWeightUpdate,
    InitWeightTransfer,
    StartWeightUpdate,
    UpdateWeights,
)

Transition: TypeAlias = (
    Sleep
    | WakeUp
    | Pause
    | Resume
    | ReleaseKvCacheMemory
    | ReloadWeights
    | InitWeightTransfer
    | StartWeightUpdate
    | UpdateWeights
    | FinishWeightUpdate
    | LoadAdapter
    | UnloadAdapter
    | ResetPrefixCache
    | ResetMmCache
    | ResetEncoderCache
    | AbortRequests
)
"""Steps that are one call to the engine."""
