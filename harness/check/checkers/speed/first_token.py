"""Whether prompts are read more slowly once the engine has slept.

A request that is alone waits for nothing but the reading of its own prompt.  Some are asked one after the
other whenever the prompts of a probe have been: the fastest after the transition is held against what was
usual before it.  Neither a busy moment nor kernels that are compiled make the fastest slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from harness.check.checkers.speed.slowness import Slowness
from harness.check.evidence import Evidence
from harness.check.timing import machine_load
from harness.history.events import FirstTokensTimed

SLOWER = 1.5
"""By what factor it must be slower every time."""

LEAST_SECONDS_MORE = 0.15
"""And by how much: a busy moment explains what is less."""

LEAST_TIMES = 2
"""So many times after the transition it must have been timed."""


def slower_first_tokens(evidence: Evidence) -> Iterator[Slowness]:
    """Find engines that let a request that is alone wait much longer for its first token."""
    before, after = first_tokens(evidence)
    if not before or len(after) < LEAST_TIMES:
        return
    slowest, fastest = _usual(before), min(min(each.seconds) for each in after)
    if fastest < limit(before):
        return
    yield Slowness(
        message=f"a request that is alone waits {fastest:.2f} s for its first token after the transition, "
        f"at the least of {len(after)} times, and {slowest:.2f} s before it",
        cycle=None,
        evidence={"seconds": fastest, "baseline_seconds": slowest},
        judged=machine_load.of_stretches(evidence.recording, map(_stretch, after)),
        before=machine_load.of_stretches(evidence.recording, map(_stretch, before)),
    )


def first_tokens(evidence: Evidence) -> tuple[list[FirstTokensTimed], list[FirstTokensTimed]]:
    """The times that they were timed before the first transition and after it, lost ones left out."""
    kept = [
        each for each in evidence.recording.first_tokens if not evidence.lost_times.overlap(*_stretch(each))
    ]
    before = [each for each in kept if each.t < evidence.first_transition]
    return before, [each for each in kept if each.t >= evidence.first_transition]


def limit(before: list[FirstTokensTimed]) -> float:
    """From how many seconds on a first token is slow."""
    return max(SLOWER * _usual(before), _usual(before) + LEAST_SECONDS_MORE)


def _usual(before: list[FirstTokensTimed]) -> float:
    """What a first token usually takes, when it takes long."""
    return max(median(each.seconds) for each in before)


def _stretch(timed: FirstTokensTimed) -> tuple[float, float]:
    return timed.t - sum(timed.seconds), timed.t
