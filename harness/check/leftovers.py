"""Whether the engine takes no more memory once it is awake again, and no more in each cycle.

Process, container and GPU memory are judged alike, each for itself: a copy of the weights that is not
freed lies in the host's memory.  An allocator settles in the first cycles, and keeps for good what it
took once: only what goes on is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from harness.check import timeline
from harness.check.evidence import Evidence
from harness.check.limits import ALPHA
from harness.check.memory import MIB, discarding_sleeps, largest_null_change, observed, releases
from harness.check.result import Finding, Strength
from harness.check.statistics import rising
from harness.check.wording import counted
from harness.history.events import Observation, StepStarted

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

QUIET = frozenset(
    {"sleep", "wake_up", "resume", "reload_weights", "release_kv_cache_memory", "reset_prefix_cache"}
)
"""Steps after which an engine holds no more than before; a request or an adapter takes some for good."""

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


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find cycles that leave memory behind: more while asleep, or more than before once awake.

    Every limit is at least what the same measurement moved across the null transitions.
    """
    floor = max(SMALLEST_LEAK, largest_null_change(evidence))
    return tuple(
        finding
        for where, measure in MEASURES
        for finding in (
            *_growing_asleep(evidence, where, measure, floor=floor),
            *_more_after_waking(evidence, where, measure, floor=floor),
        )
    )


def _growing_asleep(evidence: Evidence, where: str, measure: _Measure, *, floor: int) -> Iterator[Finding]:
    asleep: dict[int, list[tuple[StepStarted, int]]] = {}
    for sleep in discarding_sleeps(evidence):
        step = evidence.recording.action_of_step.get(sleep.step or "")
        seen = observed(evidence, sleep.step or "")[1]
        if step is not None and seen is not None and (used := measure(seen)) is not None:
            asleep.setdefault(sleep.level, []).append((step, used))
    for level, measured in asleep.items():
        levels = [each for _, each in measured]
        if said := _growth(levels, floor=floor):
            yield _finding(
                measured[-1][0],
                f"sleep level {level}: each cycle leaves {said} of {where} behind, in {len(levels)} cycles",
                growth_bytes=[later - earlier for earlier, later in pairwise(levels)],
                floor_bytes=floor,
            )


def _growth(used: Sequence[int], *, floor: int) -> str:
    """What each cycle adds, in words; empty where memory settles."""
    growth = [later - earlier for earlier, later in pairwise(used)]
    if len(used) >= LEAST_CYCLES and min(growth) > floor:
        return f"{min(growth) / MIB:.0f} MiB or more"
    late = growth[len(growth) // 2 :]
    settling = max(floor, SCATTER * max([0, *(-each for each in growth)]))
    if len(used) >= LEAST_CYCLES_OF_A_SLOPE and sum(late) > settling and rising(used) <= ALPHA:
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
            left_bytes=[each[1] for each in left],
            floor_bytes=floor,
        )


def _cycles(evidence: Evidence) -> Iterator[_Cycle]:
    """Every way from awake to awake again on which nothing but the lifecycle itself took memory."""
    giving = {
        *(sleep.step for sleep in discarding_sleeps(evidence)),
        *(step.step for step in releases(evidence)),
    }
    before: Observation | None = None
    asleep: Observation | None = None
    for step in evidence.recording.steps:
        if step.action not in QUIET:
            before = None
        first, last = observed(evidence, step.step)
        if step.step in giving and not timeline.kv_cache_is_gone(evidence.recording, at=step.t):
            before, asleep = first, last
        elif step.action == "wake_up" and before and asleep and last and last.is_sleeping is False:
            yield _Cycle(woken=step, before=before, asleep=asleep, after=last)
            before = None


def _finding(step: StepStarted, message: str, **facts: int | list[int]) -> Finding:
    return Finding(
        checker="memory",
        message=message,
        strength=Strength.PROOF,
        cycle=step.cycle,
        evidence={"step": step.step, **facts},
    )
