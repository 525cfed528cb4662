"""Whether sleeping really gives memory back, and whether it all comes back the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from harness.check import timeline
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.timeline import Sleep
from harness.history.events import Observation

MIB = 1024 * 1024

SMALLEST_RELEASE = 16 * MIB
"""Bytes; less than this is what an idle process gives back now and then by itself."""

SMALLEST_LEAK = 32 * MIB
"""Bytes a cycle; allocators settle within less."""

LEAST_CYCLES = 3
"""Sleeps of one level it takes to tell a leak from caches that fill once."""

SAME = 2 * MIB
"""Bytes; two amounts of memory closer than this are one."""


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find sleeps that do not give back what they must, and cycles that leave something behind.

    Memory must fall by more than the same measurement moved across the null transitions, and
    not by the KV cache alone: even level 1 moves the weights out of the engine's memory.
    Sleeps without a measurement before and after are left out.
    """
    return (*_kept(evidence), *_leaked(evidence))


def _kept(evidence: Evidence) -> Iterator[Finding]:
    floor = max(SMALLEST_RELEASE, largest_null_change(evidence))
    kv_cache = _kv_cache_bytes(evidence)
    for sleep in _discarding_sleeps(evidence):
        change = _change(evidence, sleep.step or "")
        if change is None:
            continue
        if change >= -floor:
            expected = f"it had to fall by more than {floor / MIB:.0f} MiB"
        elif kv_cache is not None and abs(-change - kv_cache) < SAME:
            expected = "which is the KV cache alone: the weights were not given back"
        else:
            continue
        yield _finding(
            evidence,
            sleep,
            f"memory in use changed by {change / MIB:+.0f} MiB, {expected}",
            {"change_bytes": change, "floor_bytes": floor, "kv_cache_bytes": kv_cache},
        )


def _leaked(evidence: Evidence) -> Iterator[Finding]:
    floor = max(SMALLEST_LEAK, largest_null_change(evidence))
    asleep: dict[int, list[tuple[Sleep, int]]] = {}
    for sleep in _discarding_sleeps(evidence):
        seen = _observed(evidence, sleep.step or "")[1]
        if seen is not None and (memory := _memory(seen)) is not None:
            asleep.setdefault(sleep.level, []).append((sleep, memory))
    for measured in asleep.values():
        growth = [later - earlier for (_, earlier), (_, later) in pairwise(measured)]
        if len(measured) >= LEAST_CYCLES and min(growth) > floor:
            yield _finding(
                evidence,
                measured[-1][0],
                f"each cycle leaves {min(growth) / MIB:.0f} MiB or more behind, in {len(measured)} cycles",
                {"growth_bytes": list(growth), "floor_bytes": floor},
            )


def _finding(
    evidence: Evidence, sleep: Sleep, detail: str, details: Mapping[str, int | list[int] | None]
) -> Finding:
    step = evidence.recording.action_of_step.get(sleep.step or "")
    return Finding(
        checker="memory",
        message=f"sleep level {sleep.level}: {detail}",
        strength=Strength.PROOF,
        cycle=step.cycle if step else None,
        evidence={"step": sleep.step, **details},
    )


def largest_null_change(evidence: Evidence) -> int:
    """How far the measured memory moved across null transitions, bytes; 0 where it was not measured."""
    changes = (
        _change(evidence, step.step) for step in evidence.recording.steps if step.action == "null_transition"
    )
    return max((abs(change) for change in changes if change is not None), default=0)


def _discarding_sleeps(evidence: Evidence) -> Iterator[Sleep]:
    return (
        sleep for sleep in timeline.sleeps(evidence.recording) if sleep.level >= timeline.DISCARDS_KV_CACHE
    )


def _change(evidence: Evidence, step: str) -> int | None:
    """Memory after a step minus memory before it, bytes."""
    before, after = _observed(evidence, step)
    # Who sleeps already has nothing more to give.
    if before is None or after is None or (before.is_sleeping and after.is_sleeping):
        return None
    was, now = _memory(before), _memory(after)
    measured_alike = (before.device_bytes is None) == (after.device_bytes is None)
    return now - was if was is not None and now is not None and measured_alike else None


def _observed(evidence: Evidence, step: str) -> tuple[Observation | None, Observation | None]:
    """The first look before a step and the last one after it."""
    seen = [each for each in evidence.recording.observations if each.step == step]
    before = next((each for each in seen if each.moment == "before"), None)
    after = next((each for each in reversed(seen) if each.moment != "before"), None)
    return before, after


def _memory(seen: Observation) -> int | None:
    # On a GPU the weights move into resident memory while they leave the device's.
    return seen.device_bytes if seen.device_bytes is not None else seen.resident_bytes


def _kv_cache_bytes(evidence: Evidence) -> int | None:
    """The size of the KV cache as the server's configuration tells it."""
    server = evidence.recording.server
    configuration = server.configuration if server else None
    cache = configuration.get("cache_config") if isinstance(configuration, dict) else None
    size = cache.get("kv_cache_memory_bytes") if isinstance(cache, dict) else None
    return size if isinstance(size, int) else None
