"""Whether a sleep or a wake-up takes longer in every one of a few cycles.

Nothing tells by how much healthy ones differ: none can be repeated without consequence.  So the factor and
the seconds are such that a healthy engine does not come near them, and what the same questions took in each
cycle tells how much the machine's own speed went up and down meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from harness.check.answer_pair import Reply
from harness.check.checkers.speed.each_cycle import LEAST_CYCLES, called
from harness.check.checkers.speed.once_awake import seconds_per_token
from harness.check.checkers.speed.slowness import Slowness
from harness.check.evidence import Evidence
from harness.check.timing import machine_load
from harness.check.timing.engine_times import engine_seconds
from harness.history.observations import Call

LEAST = 3
"""Cycles it takes; of many, thirds are compared (:mod:`.each_cycle`)."""

SLOWER = 1.5
"""By what factor the last must be slower than the first."""

BEYOND_ANSWERS = 1.25
"""By what factor that must exceed how much the slowest of like passes was slower than the fastest."""

STEP = 1.1
"""By what factor each must be slower than the one before it."""

LEAST_SECONDS_MORE = 1.0
"""By how much the last must be slower than the first."""


def slower_each_of_few_cycles(evidence: Evidence) -> Iterator[Slowness]:
    """Find sleeps and wake-ups that take longer from cycle to cycle."""
    least = max(SLOWER, BEYOND_ANSWERS * _unsteadiness(evidence))
    steps = evidence.recording.action_of_step
    for calls in _repeated(evidence):
        seconds = [call.seconds for call in calls]
        if not LEAST <= len(calls) < LEAST_CYCLES or not _rise(seconds, least=least):
            continue
        step = steps[calls[-1].step or ""]
        yield Slowness(
            message=f"{called(calls[-1], step)} takes longer in every cycle: "
            + ", ".join(f"{each:.1f} s" for each in seconds),
            cycle=step.cycle,
            evidence={"step": step.step, "seconds": [*seconds]},
            judged=machine_load.of_calls(evidence.recording, calls[1:]),
            before=machine_load.of_calls(evidence.recording, calls[:1]),
            engine_agrees=_engine_agrees(evidence, calls),
        )


def _rise(seconds: list[float], *, least: float) -> bool:
    first, last = seconds[0], seconds[-1]
    steadily = all(later >= STEP * earlier for earlier, later in pairwise(seconds))
    return steadily and last >= least * first and last - first >= LEAST_SECONDS_MORE


def _engine_agrees(evidence: Evidence, calls: list[Call]) -> bool:
    """Whether the engine itself counts at least half of what the last took longer, or does not count it."""
    what = "sleeps" if calls[0].path == "/sleep" else "wake_ups"
    first, last = (
        engine_seconds(evidence.recording, what, begin=call.t - call.seconds, end=call.t)
        for call in (calls[0], calls[-1])
    )
    if first is None or last is None:
        return True
    return last - first >= (calls[-1].seconds - calls[0].seconds) / 2


def _repeated(evidence: Evidence) -> Iterator[list[Call]]:
    """The calls that one step of a repetition makes, cycle by cycle: all of them do the same."""
    steps, lost = evidence.recording.action_of_step, evidence.lost_times.calls
    of: dict[str, list[Call]] = {}
    for call in evidence.recording.calls:
        step = steps.get(call.step or "")
        if step is None or not step.cycle or step.action not in {"sleep", "wake_up"}:
            continue
        if call.failure is None and call not in lost and call.parameters.get("mode") != "wait":
            of.setdefault(re.sub(r"\[\d+\]", "", step.step), []).append(call)
    yield from of.values()


def _unsteadiness(evidence: Evidence) -> float:
    """By what factor the slowest pass is slower than the fastest that asked the same; 1 where none did."""
    alike: dict[tuple[object, ...], list[Reply]] = {}
    for reply in (*evidence.null_replies, *evidence.after_replies):
        start, answer = reply.start, reply.answer
        if answer.failure is None and answer.token_ids and start.number not in evidence.lost_times.passes:
            asked = (start.role, start.probe, start.method, start.cache, start.adapter, start.concurrency)
            alike.setdefault(asked, []).append(reply)
    paces = (seconds_per_token(replies).values() for replies in alike.values())
    return max((max(each) / min(each) for each in paces if min(each) > 0), default=1.0)
