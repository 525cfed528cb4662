"""What the recorded lifecycle calls did to the engine's memory, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.history.observations import Call
from harness.history.recording import Recording

DISCARDS_KV_CACHE = 1
"""Lowest sleep level that throws the KV cache away."""

DISCARDS_WEIGHTS = 2
"""Lowest sleep level that throws the weights away without a copy."""

_LOADING = frozenset({"reload_weights", "update_weights"})
"""Methods of workers that load weights."""


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


def last_emptying(recording: Recording, *, before: float) -> Call | None:
    """The last call before ``before`` after which no cached block may be read any more."""
    return next(
        (call for call in reversed(recording.calls) if call.t < before and _empties_cache(call)), None
    )


def _empties_cache(call: Call) -> bool:
    """Whether the server said that it did what makes it forget every cached block.

    Loading weights or adapters does not: vLLM leaves it to the caller to reset the prefix cache.
    """
    if not _succeeded(call):
        return False
    match call.path:
        case "/sleep":
            return _level(call) >= DISCARDS_KV_CACHE
        case "/release_kv_cache_memory":
            return True
        case "/reset_prefix_cache":
            return isinstance(call.body, dict) and call.body.get("success") is True
        case "/pause":
            # Requests that are kept may go on filling the cache, and releases differ in what they clear then.
            kept = call.parameters.get("mode") == "keep"
            return not kept and call.parameters.get("clear_cache", "true") == "true"
        case _:
            return False


def releases_kv_cache(call: Call) -> bool:
    """Whether the server said that it gave the KV cache's memory back and kept the weights."""
    return call.path == "/release_kv_cache_memory" and _succeeded(call)


def kv_cache_is_gone(recording: Recording, *, at: float) -> bool:
    """Whether the KV cache's memory had been given back, and not been taken again, by ``at``."""
    gone = False
    for call in recording.calls:
        if call.t >= at:
            break
        if releases_kv_cache(call) or (
            call.path == "/sleep" and _succeeded(call) and _level(call) >= DISCARDS_KV_CACHE
        ):
            gone = True
        elif call.path == "/wake_up" and _succeeded(call):
            gone = gone and not _wakes(call, "kv_cache")
    return gone


def _wakes(call: Call, tag: str) -> bool:
    tags = call.parameters.get("tags")
    return not tags or tag == tags or (isinstance(tags, list) and tag in tags)


def weights_missing(recording: Recording, *, at: float) -> bool:
    """Whether the script itself had thrown the weights away, and not loaded them again, by ``at``.

    It is the order of the calls that counts: those of a program that is guarded may all have one time.
    """
    missing = False
    for call in recording.calls:
        if call.t >= at:
            break
        missing = _discards_weights(call) or (missing and not _loads_weights(call))
    return missing


def last_loading(recording: Recording, *, before: float) -> Call | None:
    """The last call before ``before`` that left other weights or none."""
    return next(
        (
            call
            for call in reversed(recording.calls)
            if call.t < before and (_loads_weights(call) or _discards_weights(call))
        ),
        None,
    )


def _discards_weights(call: Call) -> bool:
    return call.path == "/sleep" and _succeeded(call) and _level(call) >= DISCARDS_WEIGHTS


def _loads_weights(call: Call) -> bool:
    return _reloads(call) or (call.path == "/finish_weight_update" and _succeeded(call))


def _reloads(call: Call) -> bool:
    rpc = call.path == "/collective_rpc" and call.parameters.get("method") in _LOADING
    return (rpc or call.path.removeprefix("/") in _LOADING) and _succeeded(call)


def _level(call: Call) -> int:
    # The server's default level is 1 (vllm/entrypoints/serve/dev/sleep/api_router.py).
    value = call.parameters.get("level", 1)
    return int(value) if isinstance(value, int | str) else DISCARDS_KV_CACHE


def _succeeded(call: Call) -> bool:
    """Whether it did what it is for; a method of an engine in its user's process has no status."""
    return call.failure is None and (call.status is None or call.status < 300)  # noqa: PLR2004 - 2xx
