"""Whether the engine woke up slower than it fell asleep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from harness.check.comparison import Reply
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import occasion
from harness.history.events import Answer, Method

SLOWER = 1.5
"""By what factor every judged pass must be slower than every pass before the transition."""

TAIL = 8
"""One in so many passes before the transition may be as slow as it likes: the machine was busy elsewhere."""

LEAST_PASSES = 2
"""Judged passes it takes: the first one after waking up may be slow for good reasons."""

LEAST_SECONDS = 1.0
"""How long the judged passes must last together: a busy moment of the machine explains what is shorter."""


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find engines whose every judged pass is much slower than even the slowest pass before.

    Time is the least reproducible of all measurements, other work on the machine adds to it:
    so the fastest judged pass is held against the slowest one of baseline and null transition,
    but for the first a server ever answers (an engine warms up in it) and the odd one of many.
    """
    if not evidence.baseline_replies:
        return ()
    concurrency = evidence.baseline_replies[0].start.concurrency
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
    if not before or len(after) < LEAST_PASSES or _lasting(judged, concurrency=concurrency) < LEAST_SECONDS:
        return ()
    warm = sorted(before)[1:] or sorted(before)
    usual = sorted(before[number] for number in warm)
    slowest, fastest = usual[-1 - len(usual) // TAIL], min(after.values())
    if fastest < SLOWER * slowest:
        return ()
    number = min(after, key=lambda each: after[each])
    start = next(reply.start for reply in evidence.after_replies if reply.start.number == number)
    return (
        Finding(
            checker="speed",
            message=f"a token takes {fastest * 1000:.0f} ms in the fastest pass after the transition "
            f"({occasion(start)}), {slowest * 1000:.0f} ms in the slowest one before it",
            strength=Strength.PROOF,
            cycle=start.cycle,
            evidence={"seconds_per_token": fastest, "baseline_seconds_per_token": slowest},
        ),
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
