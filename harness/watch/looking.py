"""One look at a server from outside: what it says of itself, which a sleeping engine does as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import httpx
from pydantic import JsonValue

from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.metrics import MetricsReading, SleepState, read_metrics

LOOK_DEADLINE_S = 30.0
"""An engine that is falling asleep, or waking up, says so when it has."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a server said of itself at a moment; None where it does not say."""

    answers: bool = True
    """Whether it told its state at all: if not, nothing else here is known."""
    started: float | None = None
    """When its process was started, in seconds since 1970."""
    sleeps: int | None = None
    wake_ups: int | None = None
    """Calls that it counted; None before the first of either, and always in older releases."""
    is_changing: bool = False
    """Whether it is falling asleep or waking up."""
    gauge: SleepState | None = None
    is_sleeping: bool | None = None
    is_paused: bool | None = None
    tokens: int | None = None
    """All that it has generated."""
    weight_version: str | None = None
    adapters: frozenset[str] | None = None
    """The names under which adapters are served."""

    @property
    def is_asleep(self) -> bool:
        """Whether it sleeps, as far as it says; newer releases count a paused engine as sleeping, too."""
        if self.is_sleeping is None:
            return self.gauge in {"weights_offloaded", "discard_all"}
        return self.is_sleeping and not (self.is_paused is True and self.gauge == "awake")

    @property
    def rests(self) -> bool:
        """Whether a request would perhaps not be answered now: then none is sent."""
        told = self.is_sleeping is True or self.is_paused is True
        by_gauge = self.is_sleeping is None and self.gauge not in {None, "awake"}
        return self.is_changing or told or by_gauge

    @property
    def tells_state(self) -> bool:
        """Whether there is anything by which a wake-up could be noticed."""
        return self.is_sleeping is not None or self.gauge is not None or self.wake_ups is not None


@dataclass(eq=False)
class Looker:
    """Looks at one server again and again; what it was found to lack it is not asked for any more."""

    http: httpx.AsyncClient
    _lacks: set[str] = field(default_factory=set)

    async def look(self) -> Look:
        """Ask for everything at once; nothing is raised for what the server does."""
        seen: dict[str, CallResult] = {}
        metrics: list[MetricsReading] = []

        async def ask(name: str, call: Callable[[], Awaitable[CallResult]]) -> None:
            if name not in self._lacks:
                seen[name] = await call()

        async def count() -> None:
            metrics.append(await read_metrics(self.http, deadline_s=LOOK_DEADLINE_S))

        async with anyio.create_task_group() as group:
            group.start_soon(count)
            for name, call in self._calls().items():
                group.start_soon(ask, name, call)
        self._lacks |= {name for name, result in seen.items() if result.unavailable}
        return look_of(seen, metrics[0])

    def forget(self) -> None:
        """Another process answers now, which may have what the last one lacked."""
        self._lacks.clear()

    def _calls(self) -> dict[str, Callable[[], Awaitable[CallResult]]]:
        http, deadline_s = self.http, LOOK_DEADLINE_S
        return {
            "sleeping": lambda: lifecycle.is_sleeping(http, deadline_s=deadline_s),
            "paused": lambda: lifecycle.is_paused(http, deadline_s=deadline_s),
            "weights": lambda: lifecycle.weight_info(http, deadline_s=deadline_s),
            "models": lambda: lifecycle.models(http, deadline_s=deadline_s),
        }


def look_of(seen: dict[str, CallResult], metrics: MetricsReading) -> Look:
    """What the answers come to; a state that could not be had makes it a look that tells nothing."""
    states = [seen[name] for name in ("sleeping", "paused") if name in seen]
    counted = metrics.snapshot
    if counted is None or any(not (state.ok or state.unavailable) for state in states):
        return Look(answers=False)
    return Look(
        started=counted.started,
        sleeps=_number(counted.timings.get("sleeps_count")),
        wake_ups=_number(counted.timings.get("wake_ups_count")),
        is_changing=counted.is_changing,
        gauge=counted.sleep_state,
        is_sleeping=_truth(_field(seen, "sleeping", "is_sleeping")),
        is_paused=_truth(_field(seen, "paused", "is_paused")),
        tokens=counted.generation_tokens,
        weight_version=_text(_field(seen, "weights", "weight_version")),
        adapters=_adapters(_field(seen, "models", "data")),
    )


def _field(seen: dict[str, CallResult], name: str, field_name: str) -> JsonValue:
    return seen[name].field(field_name) if name in seen else None


def _truth(value: JsonValue) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _number(counted: float | None) -> int | None:
    return None if counted is None else round(counted)


def _adapters(listed: JsonValue) -> frozenset[str] | None:
    """The models that are derived from another; the first one listed is never an adapter."""
    if not isinstance(listed, list):
        return None
    cards = [card for card in listed if isinstance(card, dict)]
    return frozenset(str(card.get("id")) for card in cards[1:] if card.get("parent"))
