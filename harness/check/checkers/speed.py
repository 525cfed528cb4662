"""Whether the engine is slower once it has slept, or gets slower from cycle to cycle.

Time is the least reproducible of all measurements, other work on the machine adds to it.  So the fastest
judged pass is held against the slowest one before.  Over many cycles a busy moment of the machine slows down
one, and another tenant many of them at a stroke: what counts is what rises from each third of the cycles to
the next, and by much in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from harness.check.answer_pair import Reply
from harness.check.evidence import Evidence
from harness.check.noise.budget import Family
from harness.check.noise.exact_tests import rising
from harness.check.result import Finding, Strength
from harness.check.wording import occasion
from harness.history.events import Answer, Call, Method, StepStarted

SLOWER = 1.5
"""By what factor judged passes must be slower than those before, and the last cycles than the first."""

TAIL = 8
"""One in so many passes before the transition may be as slow as it likes: the machine was busy elsewhere."""

LEAST_PASSES = 2
"""Judged passes it takes: the first one after waking up may be slow for good reasons."""

LEAST_SECONDS_JUDGED = 1.0
"""How long the judged passes must last together: a busy moment of the machine explains what is shorter."""

LEAST_CYCLES = 8
"""Cycles it takes to tell a trend; the first one does not count, for an engine warms up in it."""

STEP = 1.1
"""By what factor each third of the cycles must be slower than the one before it."""

LEAST_SECONDS_MORE = 0.5
"""How much longer a call or an answer must take in the last third: a busy machine explains what is less."""

_Durations: TypeAlias = dict[str, list["_Duration"]]


@dataclass(frozen=True, kw_only=True)
class _Duration:
    """How long something took in one cycle."""

    step: str
    seconds: float
    within: float
    """Seconds of what it is a part of; itself where it is the whole."""


def check(evidence: Evidence) -> Iterator[Finding]:
    """Find engines that are slower once awake than before they slept, and what slows down in every cycle."""
    yield from slower_once_awake(evidence)
    yield from slower_each_cycle(evidence)


def obstacles(evidence: Evidence) -> Iterator[str]:
    """Say where an engine seems slower, but only by times that were lost."""
    for finding in slower_once_awake(evidence):
        if finding.strength is Strength.HINT:
            yield (f"{finding.message}, but {evidence.lost_times.stopped} meanwhile: run it again")


def slower_once_awake(evidence: Evidence) -> Iterator[Finding]:
    """Find engines whose every judged pass is much slower than even the slowest pass before.

    Before are baseline and null transition, but for the first pass a server ever answers (an engine warms
    up in it) and the odd one of many.  A pass during which the harness was stopped took no longer than was
    measured: it can acquit, but not accuse.
    """
    if not evidence.baseline_replies:
        return
    concurrency, lost = evidence.baseline_replies[0].start.concurrency, evidence.lost_times.passes
    asked_always = {prompt.id for prompt in evidence.recording.prompts.values() if not prompt.held_out}
    undisturbed = (
        reply
        for reply in (*evidence.baseline_replies, *evidence.null_replies)
        if reply.answer.prompt in asked_always
    )
    judged = _decoded(evidence.after_replies, concurrency=concurrency)
    before, after = (
        _seconds_per_token(_decoded(undisturbed, concurrency=concurrency)),
        _seconds_per_token(judged),
    )
    warm = sorted(before)[1:] or sorted(before)
    usual = sorted(before[number] for number in warm if number not in lost)
    if (
        not usual
        or len(after) < LEAST_PASSES
        or _lasting(judged, concurrency=concurrency) < LEAST_SECONDS_JUDGED
    ):
        return
    slowest, fastest = usual[-1 - len(usual) // TAIL], min(after.values())
    if fastest < SLOWER * slowest:
        return
    number = min(after, key=lambda each: after[each])
    start = next(reply.start for reply in evidence.after_replies if reply.start.number == number)
    yield Finding(
        checker="speed",
        message=f"a token takes {fastest * 1000:.0f} ms in the fastest pass after the transition "
        f"({occasion(start)}), {slowest * 1000:.0f} ms in the slowest one before it",
        strength=Strength.PROOF if len(after.keys() - lost) >= LEAST_PASSES else Strength.HINT,
        cycle=start.cycle,
        evidence={"seconds_per_token": fastest, "baseline_seconds_per_token": slowest},
    )


def _decoded(replies: Iterable[Reply], *, concurrency: int) -> list[Reply]:
    """The answers of passes that decode so many at a time."""
    return [
        reply
        for reply in replies
        if reply.start.method is not Method.SCORED
        and reply.start.concurrency == concurrency
        and reply.answer.failure is None
        and reply.answer.token_ids
    ]


def _seconds_per_token(replies: Iterable[Reply]) -> dict[int, float]:
    """The median over the answers of each pass."""
    speeds = _by_pass(replies, lambda answer: answer.seconds / len(answer.token_ids))
    return {number: median(each) for number, each in speeds.items()}


def _lasting(replies: Iterable[Reply], *, concurrency: int) -> float:
    """The least time that these passes can have taken together, seconds."""
    passes = _by_pass(replies, lambda answer: answer.seconds).values()
    return sum(max(*each, sum(each) / concurrency) for each in passes)


def _by_pass(replies: Iterable[Reply], measure: Callable[[Answer], float]) -> dict[int, list[float]]:
    measured: dict[int, list[float]] = {}
    for reply in replies:
        measured.setdefault(reply.start.number, []).append(measure(reply.answer))
    return measured


def slower_each_cycle(evidence: Evidence) -> Iterator[Finding]:
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


def _grows(series: list[_Duration], *, usual: float, alpha: float) -> bool:
    seconds = [each.seconds for each in series[1:]]
    if len(series) < LEAST_CYCLES or rising(seconds) > alpha:
        return False
    first, middle, last = (median(third) for third in _thirds(seconds))
    shortest, _, longest = (median(third) for third in _thirds([each.within for each in series[1:]]))
    rises = middle >= STEP * first and last >= STEP * middle
    return rises and last >= SLOWER * usual * first and longest - shortest >= LEAST_SECONDS_MORE


def _slowdown(series: list[_Duration]) -> float:
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
            took = _Duration(step=step.step, seconds=call.seconds, within=call.seconds)
            durations.setdefault(_called(call, step), []).append(took)
    return durations


def _called(call: Call, step: StepStarted) -> str:
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
        took = _Duration(
            step=start.step,
            seconds=median(
                reply.answer.seconds / (1 if scored else len(reply.answer.token_ids)) for reply in replies
            ),
            within=median(reply.answer.seconds for reply in replies),
        )
        what = f"{'reading a prompt' if scored else f'a {start.method.value} token'} ({asked})"
        durations.setdefault(what, []).append(took)
    return durations


def _first_tokens(evidence: Evidence) -> Iterator[tuple[str, list[_Duration]]]:
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
                _Duration(step=step, seconds=median(seconds), within=median(seconds))
                for step, seconds in steps.items()
            ],
        )


def _slowed_down(evidence: Evidence, what: str, series: list[_Duration]) -> Finding:
    first, _, last = (median(third) for third in _thirds([each.seconds for each in series[1:]]))
    step = evidence.recording.action_of_step.get(series[-1].step)
    return Finding(
        checker="speed",
        message=f"{what} takes longer from cycle to cycle: {first * 1000:.0f} ms in the first third "
        f"of {len(series)} cycles, {last * 1000:.0f} ms in the last",
        strength=Strength.PROOF,
        cycle=step.cycle if step else None,
        evidence={"step": series[-1].step, "seconds": [each.seconds for each in series]},
    )
