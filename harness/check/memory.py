"""Whether what is to give memory back really does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.check import timeline
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.timeline import Sleep
from harness.history.events import Observation, StepStarted

MIB = 1024 * 1024

SMALLEST_RELEASE = 16 * MIB
"""Bytes; less than this is what an idle process gives back now and then by itself."""

SAME = 2 * MIB
"""Bytes; two amounts of memory closer than this are one."""


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find sleeps, and releases of the KV cache, that do not give back what they must.

    Memory must fall by more than the same measurement moved across the null transitions, and,
    where the engine sleeps, not by the KV cache alone: even level 1 moves the weights out of the
    engine's memory.  Steps without a measurement before and after are left out.
    """
    return (*_kept(evidence), *_not_released(evidence))


def _kept(evidence: Evidence) -> Iterator[Finding]:
    floor = max(SMALLEST_RELEASE, largest_null_change(evidence))
    kv_cache = _kv_cache_bytes(evidence)
    for sleep in discarding_sleeps(evidence):
        before, after = observed(evidence, sleep.step or "")
        # Who sleeps already has nothing more to give.
        if before is not None and after is not None and before.is_sleeping and after.is_sleeping:
            continue
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


def _not_released(evidence: Evidence) -> Iterator[Finding]:
    floor = max(SMALLEST_RELEASE, largest_null_change(evidence))
    for step in releases(evidence):
        change = _change(evidence, step.step)
        # What sleeps or was released before has nothing more to give.
        if change is None or change < -floor or timeline.kv_cache_is_gone(evidence.recording, at=step.t):
            continue
        yield Finding(
            checker="memory",
            message=f"release kv cache memory: memory in use changed by {change / MIB:+.0f} MiB, "
            f"it had to fall by more than {floor / MIB:.0f} MiB",
            strength=Strength.PROOF,
            cycle=step.cycle,
            evidence={"step": step.step, "change_bytes": change, "floor_bytes": floor},
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


def discarding_sleeps(evidence: Evidence) -> Iterator[Sleep]:
    """The sleeps the server said it carried out that throw the KV cache away at the least."""
    return (
        sleep for sleep in timeline.sleeps(evidence.recording) if sleep.level >= timeline.DISCARDS_KV_CACHE
    )


def releases(evidence: Evidence) -> Iterator[StepStarted]:
    """The steps in which the server said that it released the KV cache's memory."""
    actions = evidence.recording.action_of_step
    for call in evidence.recording.calls:
        if timeline.releases_kv_cache(call) and (step := actions.get(call.step or "")) is not None:
            yield step


def _change(evidence: Evidence, step: str) -> int | None:
    """Memory after a step minus memory before it, bytes."""
    before, after = observed(evidence, step)
    if before is None or after is None:
        return None
    was, now = _memory(before), _memory(after)
    measured_alike = (before.device_bytes is None) == (after.device_bytes is None)
    return now - was if was is not None and now is not None and measured_alike else None


def observed(evidence: Evidence, step: str) -> tuple[Observation | None, Observation | None]:
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
