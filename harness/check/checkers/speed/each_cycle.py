"""Whether something takes longer and longer over many cycles.

A busy moment of the machine slows down one of them, and another tenant many at a stroke: what counts is what
rises from each third of the cycles to the next, and by much in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from harness.check.answer_pair import Reply
from harness.check.checkers.speed.slowness import Slowness
from harness.check.evidence import Evidence
from harness.check.noise.budget import Family
from harness.check.noise.exact_tests import rising
from harness.check.timing import machine_load
from harness.check.timing.machine_load import NOT_SEEN, Windows
from harness.history.observations import Call, StepStarted
from harness.history.passes import Method

SLOWER = 1.5
"""By what factor the last cycles must be slower than the first."""

LEAST_CYCLES = 8
"""Cycles it takes to tell a trend; the first one does not count, for an engine warms up in it."""

STEP = 1.1
"""By what factor each third of the cycles must be slower than the one before it."""

LEAST_SECONDS_MORE = 0.5
"""How much longer a call or an answer must take in the last third: a busy machine explains what is less."""

_Durations: TypeAlias = dict[str, list["Duration"]]


@dataclass(frozen=True, kw_only=True)
class Duration:
    """How long something took in one cycle."""

    step: str
    seconds: float
    within: float
    """Seconds of what it is a part of; itself where it is the whole."""
    machine: Windows = NOT_SEEN
    """How busy it was meanwhile."""


def slower_each_cycle(evidence: Evidence) -> Iterator[Slowness]:
    """Find what takes longer and longer: falling asleep, waking up, a first token, every further one.

    Where answers take longer as well the machine may be busy: calls must slow down by more than they do.
    """
    answers = _of_answers(evidence)
    busy = max([1.0, *(_slowdown(series) for series in answers.values())])
    calls = _of_calls(evidence)
    long = sum(len(series) >= LEAST_CYCLES for series in (*answers.values(), *calls.values()))
    alpha = evidence.budget.alpha(Family.SPEED, series=long)
    for durations, usual in ((answers, 1.0), (calls, busy)):
        for what, series in durations.items():
            if _grows(series, usual=usual, alpha=alpha):
                yield _slowed_down(evidence, what, series)


def _grows(series: list[Duration], *, usual: float, alpha: float) -> bool:
    seconds = [each.seconds for each in series[1:]]
    if len(series) < LEAST_CYCLES or rising(seconds) > alpha:
        return False
    first, middle, last = (median(third) for third in _thirds(seconds))
    shortest, _, longest = (median(third) for third in _thirds([each.within for each in series[1:]]))
    rises = middle >= STEP * first and last >= STEP * middle
    return rises and last >= SLOWER * usual * first and longest - shortest >= LEAST_SECONDS_MORE


def _slowdown(series: list[Duration]) -> float:
    """By what factor the last third of the cycles was slower than the first; 1 where there are too few."""
    if len(series) < LEAST_CYCLES:
        return 1.0
    first, _, last = (median(third) for third in _thirds([each.seconds for each in series[1:]]))
    return last / first


def _thirds(values: list[float]) -> tuple[list[float], list[float], list[float]]:
    third = len(values) // 3
    return values[:third], values[third:-third], values[-third:]


def _of_calls(evidence: Evidence) -> _Durations:
    """How long each kind of sleep and wake-up took; a sleep that waits for requests takes as long as they."""
    durations: _Durations = {}
    steps = evidence.recording.action_of_step
    for call in evidence.recording.calls:
        step = steps.get(call.step or "")
        if step is None or step.action not in {"sleep", "wake_up"} or call.failure is not None:
            continue
        if call in evidence.lost_times.calls:
            continue
        if call.parameters.get("mode") != "wait":
            took = Duration(
                step=step.step,
                seconds=call.seconds,
                within=call.seconds,
                machine=machine_load.of_calls(evidence.recording, [call]),
            )
            durations.setdefault(called(call, step), []).append(took)
    return durations


def called(call: Call, step: StepStarted) -> str:
    """A kind of call in words; the steps of a repetition are one kind."""
    if step.action == "sleep":
        return f"falling asleep (level {call.parameters.get('level', 1)})"
    tags = call.parameters.get("tags")
    named = "+".join(map(str, tags)) if isinstance(tags, list) else tags
    return f"waking up ({named})" if named else "waking up"


def _of_answers(evidence: Evidence) -> _Durations:
    """How long tokens took in each probe: the passes of one condition, one after the other."""
    passes: dict[int, list[Reply]] = {}
    for reply in evidence.after_replies:
        lost = reply.start.number in evidence.lost_times.passes
        if reply.answer.failure is None and reply.answer.token_ids and not lost:
            passes.setdefault(reply.start.number, []).append(reply)
    durations: _Durations = dict(_first_tokens(evidence))
    for replies in passes.values():
        start = replies[0].start
        asked = f"{start.adapter or 'the model'}, {start.concurrency} at a time, {start.cache.value}"
        # Scoring decodes nothing: what it takes is what a first token waits for.
        scored = start.method is Method.SCORED
        took = Duration(
            step=start.step,
            seconds=median(
                reply.answer.seconds / (1 if scored else len(reply.answer.token_ids)) for reply in replies
            ),
            within=median(reply.answer.seconds for reply in replies),
            machine=machine_load.of_passes(evidence.recording, {start.number}),
        )
        what = f"{'reading a prompt' if scored else f'a {start.method.value} token'} ({asked})"
        durations.setdefault(what, []).append(took)
    return durations


def _first_tokens(evidence: Evidence) -> Iterator[tuple[str, list[Duration]]]:
    """How long requests waited for their first token where no transition came in between."""
    waited: dict[str, dict[str, list[float]]] = {}
    for request in evidence.recording.requests:
        start, running = request.start, request.running
        if running is None or evidence.lost_times.overlap(start.t, running.t):
            continue
        if not any(start.t < step.t < running.t for step in evidence.transitions):
            waited.setdefault(start.group, {}).setdefault(start.step, []).append(running.t - start.t)
    for group, steps in waited.items():
        yield (
            f"the first token of the requests {group}",
            [
                Duration(step=step, seconds=median(seconds), within=median(seconds))
                for step, seconds in steps.items()
            ],
        )


def _slowed_down(evidence: Evidence, what: str, series: list[Duration]) -> Slowness:
    first, _, last = (median(third) for third in _thirds([each.seconds for each in series[1:]]))
    step = evidence.recording.action_of_step.get(series[-1].step)
    third = len(series[1:]) // 3
    return Slowness(
        message=f"{what} takes longer from cycle to cycle: {first * 1000:.0f} ms in the first third "
        f"of {len(series)} cycles, {last * 1000:.0f} ms in the last",
        cycle=step.cycle if step else None,
        evidence={"step": series[-1].step, "seconds": [each.seconds for each in series]},
        judged=Windows.of(each.machine for each in series[1 + third :]),
        before=Windows.of(each.machine for each in series[1 : 1 + third]),
    )
