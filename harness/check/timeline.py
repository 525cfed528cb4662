"""What the recorded lifecycle calls did to the engine's memory, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.history.events import Call
from harness.history.recording import Recording

DISCARDS_KV_CACHE = 1
"""Lowest sleep level that throws the KV cache away."""

DISCARDS_WEIGHTS = 2
"""Lowest sleep level that throws the weights away without a copy."""


@dataclass(frozen=True, kw_only=True)
class Sleep:
    """A sleep the server said it carried out."""

    t: float
    level: int
    step: str | None


def sleeps(recording: Recording) -> Iterator[Sleep]:
    """Every sleep the server acknowledged, in order."""
    for call in recording.calls:
        if call.path == "/sleep" and _succeeded(call):
            yield Sleep(t=call.t, level=_level(call), step=call.step)


def last_discard(recording: Recording, *, before: float) -> Sleep | None:
    """The last sleep before ``before`` that must have emptied the KV cache."""
    found = None
    for sleep in sleeps(recording):
        if sleep.t < before and sleep.level >= DISCARDS_KV_CACHE:
            found = sleep
    return found


def weights_missing(recording: Recording, *, at: float) -> bool:
    """Whether the script itself had thrown the weights away, and not loaded them again, by ``at``."""
    discarded = max(
        (sleep.t for sleep in sleeps(recording) if sleep.t < at and sleep.level >= DISCARDS_WEIGHTS),
        default=None,
    )
    if discarded is None:
        return False
    return not any(discarded < call.t < at and _reloads(call) for call in recording.calls)


def _reloads(call: Call) -> bool:
    return (
        call.path == "/collective_rpc"
        and call.parameters.get("method") in {"reload_weights", "update_weights"}
        and _succeeded(call)
    )


def _level(call: Call) -> int:
    # The server's default level is 1 (vllm/entrypoints/serve/dev/sleep/api_router.py).
    value = call.parameters.get("level", 1)
    return int(value) if isinstance(value, int | str) else DISCARDS_KV_CACHE


def _succeeded(call: Call) -> bool:
    return call.failure is None and call.status is not None and call.status < 300  # noqa: PLR2004 - 2xx
