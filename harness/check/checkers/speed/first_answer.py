"""Whether the first answer after every wake-up comes late.

It is what somebody who shares a GPU waits for.  It is held against the first answers of passes that asked the
same before the transition, as many at a time, and computed as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from harness.check.answer_pair import Reply, mostly_cached
from harness.check.checkers.speed.slowness import Slowness
from harness.check.evidence import Evidence, replies_in_order
from harness.check.timing import machine_load
from harness.check.wording import counted
from harness.history.passes import Role
from harness.history.recording import Pass

SLOWER = 1.5
"""By what factor each must be later."""

LEAST_SECONDS_MORE = 0.5
"""And by how much: a busy moment explains what is less."""

LEAST_WAKE_UPS = 2
"""So many wake-ups it takes: one may be slow for good reasons."""


def slower_first_answers(evidence: Evidence) -> Iterator[Slowness]:
    """Find engines whose first answer after each wake-up comes much later than in a like pass before."""
    judged = [each for each in _first_after_waking(evidence) if _first_answer(each) is not None]
    lost = evidence.lost_times.passes
    if len(judged) < LEAST_WAKE_UPS or lost & {each.number for each in judged}:
        return
    before = [
        each for each in _before(evidence) if each.number not in lost and _alike(evidence, each, judged)
    ]
    if not before:
        return
    slowest = max(_first_answer(each) or 0.0 for each in before)
    fastest = min(_first_answer(each) or 0.0 for each in judged)
    if fastest < SLOWER * slowest or fastest - slowest < LEAST_SECONDS_MORE:
        return
    yield Slowness(
        message=f"the first answer comes {fastest:.1f} s after it is asked for, at the least of "
        f"{counted(len(judged), 'wake-up')}, and {slowest:.1f} s before the transition",
        cycle=None,
        evidence={"seconds": fastest, "baseline_seconds": slowest},
        judged=machine_load.of_passes(evidence.recording, {each.number for each in judged}),
        before=machine_load.of_passes(evidence.recording, {each.number for each in before}),
    )


def _first_after_waking(evidence: Evidence) -> Iterator[Pass]:
    """The first pass after each wake-up; none after one that another follows before anything is asked."""
    wakes = [step.t for step in evidence.recording.steps if step.action == "wake_up"]
    passes = [each for each in evidence.recording.passes if each.start.role is Role.AFTER]
    for wake, following in pairwise([*wakes, float("inf")]):
        yield from [each for each in passes if wake < each.start.t < following][:1]


def _before(evidence: Evidence) -> list[Pass]:
    """Passes before any transition, but for the very first: an engine warms up in it."""
    return [
        each
        for each in evidence.recording.passes
        if each.start.role in {Role.BASELINE, Role.NULL} and each.start.t < evidence.first_transition
    ][1:]


def _alike(evidence: Evidence, before: Pass, judged: Sequence[Pass]) -> bool:
    """Whether it asked, and computed, what all that are judged did."""
    return all(_conditions(evidence, before) == _conditions(evidence, each) for each in judged)


def _conditions(evidence: Evidence, each: Pass) -> tuple[object, ...]:
    start, prompts = each.start, evidence.recording.prompts
    replies: list[Reply] = list(replies_in_order(each, prompts))
    cached = sum(mostly_cached(reply, prompts[reply.answer.prompt]) for reply in replies)
    return start.method, start.adapter, start.concurrency, start.asked, 2 * cached > len(replies)


def _first_answer(each: Pass) -> float | None:
    """Seconds until the first answer of a pass all of whose questions were answered; None for another."""
    if not each.answers or any(answer.failure is not None for answer in each.answers.values()):
        return None
    return min(answer.t for answer in each.answers.values()) - each.start.t
