"""What differs between vLLM releases, in one place and as data.

Read in the sources of the releases themselves.  The functions of this package do not consult
it: they ask, and an endpoint that is not there answers so (``CallResult.unavailable``).  It
serves those who must know beforehand, and it explains a silence afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Self, TypeAlias

from packaging.version import InvalidVersion, Version

Release: TypeAlias = tuple[int, ...]


class Feature(StrEnum):
    """Something that not every release has, in words, and the first that has it."""

    since: Release

    def __new__(cls, words: str, since: Release) -> Self:
        """Be the words, and know the release."""
        feature = str.__new__(cls, words)
        feature._value_, feature.since = words, since
        return feature

    CACHE_SALT = ("cache_salt in /v1/completions", (0, 10, 0))
    """Before, the field is ignored without a word: no request can be sure to be cold."""
    COLLECTIVE_RPC = ("/collective_rpc", (0, 10, 2))
    """Before, nothing can reload weights over HTTP, so level 2 cannot be recovered from."""
    SERVER_INFO_JSON = ("/server_info?config_format=json", (0, 11, 0))
    STRUCTURED_OUTPUTS = ("structured_outputs in requests", (0, 11, 0))
    """Before, it is spelt otherwise, and this spelling is ignored without a word."""
    RESET_MM_CACHE = ("/reset_mm_cache", (0, 11, 1))
    BATCH_INVARIANCE = ("VLLM_BATCH_INVARIANT in the environment", (0, 11, 1))
    """On GPUs (NVIDIA from compute capability 8.0 on, AMD Instinct) and Intel XPUs; before, it is ignored."""
    SLEEP_STATE_METRIC = ("vllm:engine_sleep_state", (0, 11, 1))
    CORRUPTED_REQUESTS_METRIC = ("vllm:corrupted_requests", (0, 11, 1))
    PAUSE = ("/pause, /resume and /is_paused", (0, 12, 0))
    RESET_RUNNING_REQUESTS = ("/reset_prefix_cache?reset_running_requests=", (0, 12, 0))
    RESET_EXTERNAL = ("/reset_prefix_cache?reset_external=", (0, 13, 0))
    LOAD_ADAPTER_IN_PLACE = ("/v1/load_lora_adapter with load_inplace", (0, 15, 0))
    PAUSE_MODE = ("/pause?mode=", (0, 16, 0))
    RESET_ENCODER_CACHE = ("/reset_encoder_cache", (0, 16, 0))
    RELOAD_FROM_PATH = ("reload_weights with weights_path", (0, 16, 0))
    SLEEP_MODE = ("/sleep?mode=", (0, 17, 0))
    LEVEL_ZERO = ("/sleep?level=0 and /wake_up?tags=scheduling", (0, 17, 0))
    ZERO_CACHED_TOKENS = ("cached_tokens of 0", (0, 24, 0))
    """Before, a request without a cached block has no ``prompt_tokens_details`` at all."""
    FORCED_DECODE = ("trace_decode_token_ids in /inference/v1/generate", (0, 30, 0))
    ABORT_REQUESTS = ("/abort_requests", (0, 26, 0))
    RELEASE_KV_CACHE_MEMORY = ("/release_kv_cache_memory", (0, 31, 0))
    WEIGHT_CHECKER = ("/weight_checker", (0, 32, 0))
    WEIGHT_TRANSFER = ("/start_weight_update, /update_weights and /finish_weight_update", (0, 32, 0))
    """As it is spoken here; releases before had parts of it, in other words."""


SLEEP_STATE_METRIC = "vllm:engine_sleep_state"

CACHE_CONFIG_METRIC = "vllm:cache_config_info"
"""Its labels are the cache's configuration (vllm/v1/metrics/loggers.py)."""

ENDED_METRIC = "vllm:request_success_total"
"""Requests that ended, by ``finished_reason``, ``abort`` among them."""

OPERATIONS_UNDER_WAY_METRIC = "vllm:sleep_mode_operations_in_flight"
"""Calls that let the engine sleep, or wake it, by ``operation``."""

METRIC_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "requests_running": ("vllm:num_requests_running",),
        "requests_waiting": ("vllm:num_requests_waiting",),
        "preemptions": ("vllm:num_preemptions_total",),
        "prefix_cache_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "prefix_cache_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "prompt_tokens": ("vllm:prompt_tokens_total",),
        "iterations": ("vllm:iteration_tokens_total_count",),
        "generation_tokens": ("vllm:generation_tokens_total",),
        "drafted_tokens": ("vllm:spec_decode_num_draft_tokens_total",),
        "accepted_tokens": ("vllm:spec_decode_num_accepted_tokens_total",),
        "requests_ended": (ENDED_METRIC,),
        "corrupted_requests": ("vllm:corrupted_requests_total",),
    }
)
"""Field of :class:`~harness.vllm_api.metrics.MetricsSnapshot` -> sample names, newest first.

The ``gpu_`` names are the only ones up to 0.8 and served beside the others up to 0.11.
"""


TIMED: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "answers": ("vllm:e2e_request_latency_seconds", None),
        "sleeps": ("vllm:sleep_mode_operation_duration_seconds", "sleep"),
        "wake_ups": ("vllm:sleep_mode_operation_duration_seconds", "wake"),
    }
)
"""What an engine times itself -> the histogram that holds it, and its label ``operation``, if it has one."""


def has(feature: Feature, version: str) -> bool | None:
    """Whether the release called ``version`` has the feature; ``None`` where that is not a release.

    ``.post2``, ``+cpu`` and the like do not matter; what was built between releases is not known.
    """
    try:
        release = Version(version)
    except InvalidVersion:
        return None
    return None if release.is_prerelease else release.release >= feature.since
