"""What a watch tells Prometheus, read from its status when it is asked."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from harness.watch.status import OUTCOMES, Status, outcome_of

PREFIX = "sleepwake_watch_"


def registry_of(status: Status) -> CollectorRegistry:
    """A registry of its own: whatever else this process counts is not told."""
    registry = CollectorRegistry()
    registry.register(_Collector(status))
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """The text that ``/metrics`` answers with."""
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        yield from self._now()
        yield from self._verdicts()
        yield from self._counts()

    def _now(self) -> Iterable[Metric]:
        """How things stand; what is not known yet is left out."""
        status = self._status
        ready = status.not_ready is None
        told: tuple[tuple[str, str, float | None], ...] = (
            ("ready", "1 if the server was found sound since the last that happened to it.", ready),
            ("server_answers", "1 if the server told its state when last looked at.", status.answers),
            ("engine_rests", "1 if the engine is asleep, paused, or changes between.", status.rests),
            ("has_baseline", "1 if there is a baseline to hold wake-ups against.", status.has_baseline),
            ("last_wake_up_timestamp_seconds", "When a wake-up was last noticed.", status.last_wake_up_at),
            ("last_check_timestamp_seconds", "When a check was last judged.", status.last_check_at),
            ("noise_nat", "How far answers differ when nothing happens.", status.noise_nat),
        )
        for name, documentation, value in told:
            if value is not None:
                yield GaugeMetricFamily(PREFIX + name, documentation, float(value))

    def _verdicts(self) -> Iterable[Metric]:
        """Every verdict has its series from the start, so that a first alarm is an increase."""
        status = self._status
        last = GaugeMetricFamily(
            f"{PREFIX}last_verdict", "1 for the verdict of the last check.", labels=("verdict",)
        )
        checks = CounterMetricFamily(f"{PREFIX}checks", "Checks judged, by verdict.", labels=("verdict",))
        for outcome in OUTCOMES:
            is_last = status.last is not None and outcome_of(status.last) == outcome
            last.add_metric((outcome,), float(is_last))
            checks.add_metric((outcome,), status.checks[outcome])
        yield from (last, checks)

    def _counts(self) -> Iterable[Metric]:
        status = self._status
        told: tuple[tuple[str, str, float], ...] = (
            ("wake_ups", "Wake-up calls noticed.", status.wake_ups),
            ("restarts", "Restarts of the server noticed.", status.restarts),
            ("weight_updates", "Weight updates noticed.", status.weight_updates),
            ("adapter_changes", "Adapters that came or went.", status.adapter_changes),
            ("without_own_check", "Wake-ups judged together with a later one.", status.without_own_check),
            ("given_up", "Checks and baselines that something came in between of.", status.given_up),
            ("seconds", "Time spent on baselines and checks.", status.seconds),
            ("tokens", "Tokens spent on baselines and checks, prompts included.", status.tokens),
            ("webhook_failures", "Webhook calls that failed.", status.unsent),
        )
        for name, documentation, value in told:
            yield CounterMetricFamily(PREFIX + name, documentation, value)
