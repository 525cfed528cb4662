"""``/metrics`` as a small snapshot of what matters around sleep and wake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from harness.vllm_api.calls import CallError, fetch, malformed
from harness.vllm_api.versions import (
    CACHE_CONFIG_METRIC,
    ENDED_METRIC,
    METRIC_NAMES,
    OPERATIONS_UNDER_WAY_METRIC,
    SLEEP_STATE_METRIC,
    TIMED,
)

SleepState: TypeAlias = Literal["awake", "paused", "weights_offloaded", "discard_all"]


@dataclass(frozen=True, kw_only=True)
class MetricsSnapshot:
    """Counters and gauges, summed over a server's engines; ``None`` where it does not have one.

    ``prefix_cache_queries`` and ``prefix_cache_hits`` count tokens.  ``corrupted_requests``
    counts requests with NaN logits and needs ``VLLM_COMPUTE_NANS_IN_LOGITS=1``.
    """

    sleep_state: SleepState | None
    started: float | None
    """When the process that answers was started, in seconds since 1970."""
    requests_running: int | None
    requests_waiting: int | None
    requests_ended: int | None
    requests_aborted: int | None
    preemptions: int | None
    prefix_cache_queries: int | None
    prefix_cache_hits: int | None
    generation_tokens: int | None
    drafted_tokens: int | None
    accepted_tokens: int | None
    corrupted_requests: int | None
    prompt_tokens: int | None = None
    iterations: int | None = None
    """Steps of the engine that computed anything."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """What the engine timed itself: of each ``what`` of :data:`~harness.vllm_api.versions.TIMED` the numbers
    ``what_count`` and ``what_seconds``, as far as it has them."""
    is_changing: bool = False
    """Whether a call is under way that lets the engine sleep, or wakes it."""
    cache_config: Mapping[str, str] = field(default_factory=dict)
    """How the cache is set up, ``enable_prefix_caching`` and ``block_size`` among it, as text."""

    @property
    def work(self) -> tuple[int | None, ...]:
        """All that changes while the engine gets on with requests."""
        return (
            *(self.requests_running, self.requests_waiting, self.preemptions),
            *(self.prompt_tokens, self.generation_tokens, self.iterations, self.prefix_cache_queries),
        )


@dataclass(frozen=True, kw_only=True)
class MetricsReading:
    """One look at ``/metrics``: a snapshot, or why there is none."""

    snapshot: MetricsSnapshot | None
    seconds: float
    error: CallError | None = None


async def read_metrics(http: httpx.AsyncClient, *, deadline_s: float) -> MetricsReading:
    """Fetch and parse ``/metrics``; nothing is raised for what the server does."""
    fetched = await fetch(http, "GET", "/metrics", deadline_s=deadline_s)
    if fetched.response is None or fetched.error is not None:
        return MetricsReading(snapshot=None, seconds=fetched.seconds, error=fetched.error)
    try:
        snapshot = parse_metrics(fetched.response.text)
    except ValueError as unreadable:
        return MetricsReading(snapshot=None, seconds=fetched.seconds, error=malformed(unreadable))
    return MetricsReading(snapshot=snapshot, seconds=fetched.seconds)


def parse_metrics(text: str) -> MetricsSnapshot:
    """Read a Prometheus exposition.

    Raises:
        ValueError: the text is not one.
    """
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    totals = {field: _total(samples, names) for field, names in METRIC_NAMES.items()}
    started = (sample.value for sample in samples if sample.name == "process_start_time_seconds")
    of_cache = (sample.labels for sample in samples if sample.name == CACHE_CONFIG_METRIC)
    return MetricsSnapshot(
        sleep_state=_sleep_state(samples),
        started=next(started, None),
        requests_aborted=_aborted(samples),
        timings=dict(_timings(samples)),
        is_changing=any(each.value for each in samples if each.name == OPERATIONS_UNDER_WAY_METRIC),
        cache_config=next(of_cache, {}),
        **totals,
    )


def _timings(samples: Iterable[Sample]) -> Iterator[tuple[str, float]]:
    of: dict[tuple[str, str | None], float] = {}
    for sample in samples:
        key = sample.name, sample.labels.get("operation")
        of[key] = of.get(key, 0.0) + sample.value
    for what, (histogram, operation) in TIMED.items():
        number, seconds = of.get((f"{histogram}_count", operation)), of.get((f"{histogram}_sum", operation))
        if number is not None and seconds is not None:
            yield f"{what}_count", number
            yield f"{what}_seconds", seconds


def _aborted(samples: Iterable[Sample]) -> int | None:
    """How many requests ended early; None where nothing is counted by its reason."""
    ended = [sample for sample in samples if sample.name == ENDED_METRIC]
    aborted = (sample.value for sample in ended if sample.labels.get("finished_reason") == "abort")
    return round(sum(aborted)) if ended else None


def _total(samples: Iterable[Sample], names: tuple[str, ...]) -> int | None:
    """Sum the series of the first name that is there: releases renamed metrics and some serve both names."""
    for name in names:
        values = [sample.value for sample in samples if sample.name == name]
        if values:
            return round(sum(values))
    return None


def _sleep_state(samples: Iterable[Sample]) -> SleepState | None:
    """Read the gauge's series, of which the one that applies is 1.

    All of them are 0 while only scheduling is paused or only the KV cache is released
    (vllm/v1/metrics/loggers.py, ``record_sleep_state``).  Of several engines the one that
    has lost most counts.
    """
    series = [sample for sample in samples if sample.name == SLEEP_STATE_METRIC]
    active = {sample.labels["sleep_state"] for sample in series if sample.value == 1}
    if not series:
        return None
    if "discard_all" in active:
        return "discard_all"
    if "weights_offloaded" in active:
        return "weights_offloaded"
    return "awake" if "awake" in active else "paused"
