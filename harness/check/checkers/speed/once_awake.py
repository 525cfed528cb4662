"""Whether the engine takes longer for a token once it has slept: every time, and by much."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from harness.check.answer_pair import Reply
from harness.check.checkers.speed.slowness import Slowness
from harness.check.evidence import Evidence
from harness.check.timing import machine_load
from harness.check.timing.engine_times import engine_seconds
from harness.check.wording import occasion
from harness.history.passes import Answer, Method

SLOWER = 1.5
"""By what factor judged passes must be slower than those before."""

TAIL = 8
"""One in so many passes before the transition may be as slow as it likes: the machine was busy elsewhere."""

LEAST_PASSES = 2
"""Judged passes it takes: the first one after waking up may be slow for good reasons."""

CLEARLY = 1.2
"""By what factor the engine itself must count more time; it counts requests of one token as well."""

LEAST_SECONDS_JUDGED = 1.0
"""How long the judged passes must last together: a busy moment of the machine explains what is shorter."""


def slower_once_awake(evidence: Evidence) -> Iterator[Slowness]:
    """Find engines whose every judged pass is much slower than even the slowest pass before.

    Before are baseline and null transition, but for the first pass a server ever answers (an engine warms
    up in it) and the odd one of many.  A pass during which the harness was stopped took no longer than was
    measured: it can acquit, but not accuse.
    """
    passes = paces(evidence)
    if passes is None or passes.unjudged:
        return
    after, slowest, fastest = passes.after, passes.slowest_before, min(passes.after.values())
    if fastest < SLOWER * slowest:
        return
    number = min(after, key=lambda each: after[each])
    start = next(reply.start for reply in evidence.after_replies if reply.start.number == number)
    kept = after.keys() - evidence.lost_times.passes
    yield Slowness(
        message=f"a token takes {fastest * 1000:.0f} ms in the fastest pass after the transition "
        f"({occasion(start)}), {slowest * 1000:.0f} ms in the slowest one before it",
        cycle=start.cycle,
        evidence={"seconds_per_token": fastest, "baseline_seconds_per_token": slowest},
        judged=machine_load.of_passes(evidence.recording, kept),
        before=machine_load.of_passes(evidence.recording, passes.before.keys()),
        engine_agrees=_engine_agrees(evidence, passes),
        shows_without_lost_times=len(kept) >= LEAST_PASSES,
    )


def _engine_agrees(evidence: Evidence, passes: Paces) -> bool:
    """Whether the engine itself counts clearly more time for an answer than before, or does not count it."""
    numbered = {each.number: each for each in evidence.recording.passes}
    before, after = (
        engine_seconds(
            evidence.recording,
            "answers",
            begin=numbered[min(numbers)].start.t,
            end=max(answer.t for answer in numbered[max(numbers)].answers.values()),
        )
        for numbers in (passes.before, passes.after)
    )
    return before is None or after is None or after >= CLEARLY * before


@dataclass(frozen=True, kw_only=True)
class Paces:
    """Seconds that a token took in each pass that counts, by the number of the pass."""

    before: Mapping[int, float]
    after: Mapping[int, float]
    lasting: float
    """The least time that the judged ones can have taken together."""

    @property
    def slowest_before(self) -> float:
        """What a token took before, when it took long."""
        usual = sorted(self.before.values())
        return usual[-1 - len(usual) // TAIL]

    @property
    def unjudged(self) -> str:
        """Why nothing can be said of them; empty where something can."""
        if len(self.after) < LEAST_PASSES:
            return f"{LEAST_PASSES} passes after the transition are needed"
        if self.lasting < LEAST_SECONDS_JUDGED:
            return f"the passes after the transition last less than {LEAST_SECONDS_JUDGED:g} s together"
        return ""


def paces(evidence: Evidence) -> Paces | None:
    """How long a token took in each pass; None where no time from before the transition is left."""
    if not evidence.baseline_replies:
        return None
    concurrency, lost = evidence.baseline_replies[0].start.concurrency, evidence.lost_times.passes
    asked_always = {prompt.id for prompt in evidence.recording.prompts.values() if not prompt.held_out}
    undisturbed = (
        reply
        for reply in (*evidence.baseline_replies, *evidence.null_replies)
        if reply.answer.prompt in asked_always
    )
    judged = _decoded(evidence.after_replies, concurrency=concurrency)
    kept = [reply for reply in judged if reply.start.number not in lost]
    before = seconds_per_token(_decoded(undisturbed, concurrency=concurrency))
    warm = sorted(before)[1:] or sorted(before)
    usual = {number: before[number] for number in warm if number not in lost}
    if not usual:
        return None
    return Paces(
        before=usual,
        after=seconds_per_token(judged),
        lasting=_lasting(kept or judged, concurrency=concurrency),
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


def seconds_per_token(replies: Iterable[Reply]) -> dict[int, float]:
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
