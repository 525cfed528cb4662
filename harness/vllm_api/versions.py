"""What differs between vLLM releases, in one place and as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SLEEP_STATE_METRIC = "vllm:engine_sleep_state"

METRIC_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "requests_running": ("vllm:num_requests_running",),
        "requests_waiting": ("vllm:num_requests_waiting",),
        "preemptions": ("vllm:num_preemptions_total",),
        "prefix_cache_queries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "prefix_cache_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "generation_tokens": ("vllm:generation_tokens_total",),
        "drafted_tokens": ("vllm:spec_decode_num_draft_tokens_total",),
        "accepted_tokens": ("vllm:spec_decode_num_accepted_tokens_total",),
        "corrupted_requests": ("vllm:corrupted_requests_total",),
    }
)
"""Field of :class:`~harness.vllm_api.metrics.MetricsSnapshot` -> sample names, newest first."""
