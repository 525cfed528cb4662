"""``/metrics`` in vLLM's names (vllm/v1/metrics/loggers.py)."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from tests.fake_vllm.engine import Engine

_LABELS = ("model_name", "engine")


def exposition(engine: Engine, *, model: str) -> bytes:
    """The text that ``/metrics`` answers with."""
    registry = CollectorRegistry()
    registry.register(_EngineCollector(engine, model))
    return generate_latest(registry)


class _EngineCollector(Collector):
    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self._labels = (model, "0")

    def collect(self) -> Iterable[Metric]:
        counters = self._engine.scheduler.counters
        yield self._gauge("vllm:num_requests_running", counters.running)
        yield self._gauge("vllm:num_requests_waiting", counters.waiting)
        yield self._sleep_state()
        yield self._counter("vllm:num_preemptions", counters.preemptions)
        yield self._counter("vllm:prefix_cache_queries", counters.prefix_cache_queries)
        yield self._counter("vllm:prefix_cache_hits", counters.prefix_cache_hits)
        yield self._counter("vllm:generation_tokens", counters.generation_tokens)
        yield self._ended()
        yield self._cache_config()
        yield GaugeMetricFamily("process_start_time_seconds", "When it was started.", self._engine.started)
        if self._engine.operations:
            yield self._operations()

    def _operations(self) -> Metric:
        """Not there before the first of them (vllm/entrypoints/serve/dev/sleep/metrics.py)."""
        family = HistogramMetricFamily(
            "vllm:sleep_mode_operation_duration_seconds", "Duration.", labels=("operation",)
        )
        for operation, seconds in self._engine.operations.items():
            family.add_metric((operation,), buckets=[("+Inf", len(seconds))], sum_value=sum(seconds))
        return family

    def _cache_config(self) -> Metric:
        options = self._engine.options
        labels = {
            "block_size": str(options.block_size),
            "enable_prefix_caching": str(options.enable_prefix_caching),
            "num_gpu_blocks": str(options.blocks),
        }
        family = GaugeMetricFamily("vllm:cache_config_info", "Of the cache.", labels=(*labels, "engine"))
        family.add_metric((*labels.values(), self._labels[1]), 1)
        return family

    def _sleep_state(self) -> Metric:
        asleep, level = self._engine.sleep_gauge
        states = {
            "awake": not asleep,
            "weights_offloaded": asleep and level == 1,
            "discard_all": asleep and level == 2,
        }
        family = GaugeMetricFamily(
            "vllm:engine_sleep_state", "Engine sleep state.", labels=(*_LABELS, "sleep_state")
        )
        for state, applies in states.items():
            family.add_metric((*self._labels, state), float(applies))
        return family

    def _ended(self) -> Metric:
        family = CounterMetricFamily(
            "vllm:request_success", "Requests that ended.", labels=(*_LABELS, "finished_reason")
        )
        for reason, number in self._engine.scheduler.counters.ended.items():
            family.add_metric((*self._labels, reason), number)
        return family

    def _gauge(self, name: str, value: int) -> Metric:
        family = GaugeMetricFamily(name, name, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family

    def _counter(self, name: str, value: int) -> Metric:
        family = CounterMetricFamily(name, name, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family
