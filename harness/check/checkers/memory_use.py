"""Whether sleeping gives memory back, and whether waking up and every further cycle take no more than that.

A sleep is judged by the memory that its engine computes in.  What is left behind may lie anywhere: process,
container and GPU memory are judged alike, each for itself, because a copy of the weights that is not freed
lies in the host's memory.  An allocator settles in the first cycles, and keeps for good what it took once:
only what goes on is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from pydantic import JsonValue

from harness.check import lifecycle_calls
from harness.check.evidence import Evidence
from harness.check.lifecycle_calls import Sleep
from harness.check.noise.budget import Family
from harness.check.noise.exact_tests import rising
from harness.check.result import Finding, Strength
from harness.check.told_configuration import told
from harness.check.wording import counted, overlaps
from harness.history.observations import Observation, StepStarted

MIB = 1024 * 1024

SMALLEST_RELEASE = 16 * MIB
"""Bytes; less than this is what an idle process gives back now and then by itself."""

SAME = 2 * MIB
"""Bytes; two amounts of memory closer than this are one."""

SMALLEST_LEAK = 32 * MIB
"""Bytes; allocators settle within less a cycle."""

LEAST_CYCLES = 3
"""Sleeps of one level it takes to tell a leak from caches that fill once."""

LEAST_CYCLES_OF_A_SLOPE = 8
"""Cycles it takes to tell a slow leak from an allocator that settles."""

SCATTER = 4
"""A slow leak adds more, in the second half of the cycles, than so many times what any cycle gave back."""

SHARE_OF_THE_RELEASE = 4
"""A cycle that leaves more than one in so many bytes given back behind is no allocator that settles."""

_Measure: TypeAlias = Callable[[Observation], int | None]

MEASURES: tuple[tuple[str, _Measure], ...] = (
    ("memory", lambda seen: seen.resident_bytes),
    ("GPU memory", lambda seen: seen.device_bytes),
)


@dataclass(frozen=True, kw_only=True)
class _Cycle:
    """From the last look at the awake engine to the first one after it woke up whole."""

    woken: StepStarted
    before: Observation
    asleep: Observation
    after: Observation


def check(evidence: Evidence) -> Iterator[Finding]:
    """Find sleeps that do not give back what they must, and cycles that leave memory behind.

    Every limit is at least what the same measurement moved across the null transitions.
    """
    yield from not_given_back(evidence)
    yield from left_behind(evidence)


def not_given_back(evidence: Evidence) -> Iterator[Finding]:
    """Find sleeps, and releases of the KV cache, that do not give back what they must.

    Where the engine sleeps that is not the KV cache alone: even level 1 moves the weights out of the
    engine's memory.  Steps without a measurement before and after are left out.
    """
    yield from _kept_asleep(evidence)
    yield from _not_released(evidence)


def left_behind(evidence: Evidence) -> Iterator[Finding]:
    """Find cycles that leave memory behind: more while asleep, or more than before once awake."""
    floor = max(SMALLEST_LEAK, largest_null_change(evidence))
    yield from _growing_asleep(evidence, floor=floor)
    for where, measure in MEASURES:
        yield from _more_after_waking(evidence, where, measure, floor=floor)


def _kept_asleep(evidence: Evidence) -> Iterator[Finding]:
    floor = max(SMALLEST_RELEASE, largest_null_change(evidence))
    kv_cache = _kv_cache_bytes(evidence)
    for sleep in _discarding_sleeps(evidence):
        before, after = _observed(evidence, sleep.step or "")
        # Who sleeps already has nothing more to give.
        if before is not None and after is not None and before.is_sleeping and after.is_sleeping:
            continue
        change = _change(evidence, sleep.step or "")
        if change is None:
            continue
        if change >= -floor:
            expected = f"but it should have fallen by more than {floor / MIB:.0f} MiB"
        elif kv_cache is not None and abs(-change - kv_cache) < SAME:
            expected = "which is the KV cache alone: the weights were not released"
        else:
            continue
        yield _finding(
            evidence.recording.action_of_step.get(sleep.step or ""),
            f"sleep level {sleep.level}: memory in use changed by {change / MIB:+.0f} MiB, {expected}",
            {"step": sleep.step, "change_bytes": change, "floor_bytes": floor, "kv_cache_bytes": kv_cache},
        )


def _not_released(evidence: Evidence) -> Iterator[Finding]:
    floor = max(SMALLEST_RELEASE, largest_null_change(evidence))
    for step in _releases(evidence):
        change = _change(evidence, step.step)
        # What sleeps or was released before has nothing more to give.
        if (
            change is None
            or change < -floor
            or lifecycle_calls.kv_cache_is_gone(evidence.recording, at=step.t)
        ):
            continue
        yield _finding(
            step,
            f"release kv cache memory: memory in use changed by {change / MIB:+.0f} MiB, "
            f"but it should have fallen by more than {floor / MIB:.0f} MiB",
            {"step": step.step, "change_bytes": change, "floor_bytes": floor},
        )


def _growing_asleep(evidence: Evidence, *, floor: int) -> Iterator[Finding]:
    asleep: dict[tuple[str, int], list[tuple[StepStarted, int]]] = {}
    for where, measure in MEASURES:
        for sleep in _discarding_sleeps(evidence):
            step = evidence.recording.action_of_step.get(sleep.step or "")
            seen = _observed(evidence, sleep.step or "")[1]
            if step is not None and seen is not None and (used := measure(seen)) is not None:
                asleep.setdefault((where, sleep.level), []).append((step, used))
    long = sum(len(measured) >= LEAST_CYCLES_OF_A_SLOPE for measured in asleep.values())
    alpha = evidence.budget.alpha(Family.MEMORY, series=long)
    for (where, level), measured in asleep.items():
        levels = [each for _, each in measured]
        if said := _growth(levels, floor=floor, alpha=alpha):
            last, _ = measured[-1]
            growth: list[JsonValue] = [later - earlier for earlier, later in pairwise(levels)]
            yield _finding(
                last,
                f"sleep level {level}: each cycle leaves {said} of {where} behind, in {len(levels)} cycles",
                {"step": last.step, "growth_bytes": growth, "floor_bytes": floor},
            )


def _growth(used: Sequence[int], *, floor: int, alpha: float) -> str:
    """What each cycle adds, in words; empty where memory settles."""
    growth = [later - earlier for earlier, later in pairwise(used)]
    if len(used) >= LEAST_CYCLES and min(growth) > floor:
        return f"{min(growth) / MIB:.0f} MiB or more"
    late = growth[len(growth) // 2 :]
    settling = max(floor, SCATTER * max([0, *(-each for each in growth)]))
    if len(used) >= LEAST_CYCLES_OF_A_SLOPE and sum(late) > settling and rising(used) <= alpha:
        return f"about {sum(late) / len(late) / MIB:.0f} MiB"
    return ""


def _more_after_waking(evidence: Evidence, where: str, measure: _Measure, *, floor: int) -> Iterator[Finding]:
    left: list[tuple[_Cycle, int, int]] = []
    for cycle in _cycles(evidence):
        before, asleep, after = measure(cycle.before), measure(cycle.asleep), measure(cycle.after)
        if before is not None and asleep is not None and after is not None:
            left.append((cycle, after - before, before - asleep))
    # In the first cycle an allocator settles: what it takes then is little beside what it gave back.
    late = [each for number, each in enumerate(left) if number and each[1] > floor]
    large = [each for each in left if each[1] > floor and 0 < each[2] < SHARE_OF_THE_RELEASE * each[1]]
    found = max((late if len(late) > 1 else [], large), key=len)
    if found:
        cycle, most, _ = max(found, key=lambda each: each[1])
        yield _finding(
            cycle.woken,
            f"up to {most / MIB:.0f} MiB more {where} is in use after waking up than before the sleep, "
            f"in {len(found)} of {counted(len(left), 'cycle')}",
            {"step": cycle.woken.step, "left_bytes": [each[1] for each in left], "floor_bytes": floor},
        )


def _cycles(evidence: Evidence) -> Iterator[_Cycle]:
    """Every way from awake to awake again on which nothing but the lifecycle itself took memory."""
    giving = {
        *(sleep.step for sleep in _discarding_sleeps(evidence)),
        *(step.step for step in _releases(evidence)),
    }
    before: Observation | None = None
    asleep: Observation | None = None
    for step in evidence.recording.steps:
        if step.takes_memory:
            before = None
        first, last = _observed(evidence, step.step)
        if step.step in giving and not lifecycle_calls.kv_cache_is_gone(evidence.recording, at=step.t):
            before, asleep = first, last
        elif step.action == "wake_up" and before and asleep and last and last.is_sleeping is False:
            yield _Cycle(woken=step, before=before, asleep=asleep, after=last)
            before = None


def largest_null_change(evidence: Evidence) -> int:
    """How far the measured memory moved across null transitions, bytes; 0 where it was not measured."""
    changes = (
        _change(evidence, step.step) for step in evidence.recording.steps if step.action == "null_transition"
    )
    return max((abs(change) for change in changes if change is not None), default=0)


def _discarding_sleeps(evidence: Evidence) -> Iterator[Sleep]:
    """The sleeps the server said it carried out that throw the KV cache away at the least."""
    return (
        sleep
        for sleep in lifecycle_calls.sleeps(evidence.recording)
        if sleep.level >= lifecycle_calls.DISCARDS_KV_CACHE
        and not _overlapped(evidence.recording.action_of_step.get(sleep.step or ""))
    )


def _releases(evidence: Evidence) -> Iterator[StepStarted]:
    """The steps in which the server said that it released the KV cache's memory."""
    actions = evidence.recording.action_of_step
    for call in evidence.recording.calls:
        step = actions.get(call.step or "")
        if lifecycle_calls.releases_kv_cache(call) and step is not None and not _overlapped(step):
            yield step


def _overlapped(step: StepStarted | None) -> bool:
    """Whether other calls were in flight with those of a step, which may have taken the memory again."""
    return step is not None and overlaps(step)


def _change(evidence: Evidence, step: str) -> int | None:
    """Memory after a step minus memory before it, bytes."""
    before, after = _observed(evidence, step)
    if before is None or after is None:
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
    size = told(evidence.recording, "cache_config", "kv_cache_memory_bytes")
    return size if isinstance(size, int) else None


def _finding(step: StepStarted | None, message: str, facts: Mapping[str, JsonValue]) -> Finding:
    return Finding(
        checker="memory",
        message=message,
        strength=Strength.PROOF,
        cycle=step.cycle if step else None,
        evidence=facts,
    )
