"""Whether a server that has served a cell may serve another: does it answer as when it was fresh?

What it says before the next cell does anything to it is judged by what it said, to the same questions,
before the first cell did: the first cell's own noise counts, and the rule is that of every verdict.  So
damaged answers cannot become the baseline that others are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from harness.check.answer_pair import Reply, mostly_cached
from harness.check.evidence import Evidence
from harness.check.noise.limits import RESOLUTION
from harness.check.result import Verdict
from harness.check.verdict import judge
from harness.check.wording import counted
from harness.history.appending import as_asked_after
from harness.history.passes import Answer, CacheCondition, Method, Role
from harness.history.recording import Pass, Recording

_Conditions: TypeAlias = tuple[Role, Method, CacheCondition, int, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What is known of the server; what is neither whole nor damaged cannot be told."""

    whole: bool = False
    damaged: bool = False
    because: str = ""


def judge_handover(fresh: Recording, later: Recording) -> Handover:
    """Hold what a later cell was answered, before its first transition, against the first on its server.

    That one found the server ``fresh``, and was judged clean.
    """
    if not _same_questions(fresh, later):
        return Handover(because="it was asked other questions when it was fresh")
    if _told_other_checksums(fresh, later):
        return Handover(damaged=True, because="its weight checksums differ from when it was fresh")
    if computed := _no_longer_cached(fresh, later):
        return Handover(
            because=f"{counted(computed, 'answer')} no longer come from the prefix cache as they did before"
        )
    if _come_again(fresh, later):
        return Handover(whole=True)
    result = judge(_asked_again(fresh, later))
    return Handover(
        whole=result.verdict is Verdict.CLEAN,
        damaged=result.verdict is Verdict.CORRUPT,
        because=f"asked again what it was asked when it was fresh: {result.reason}",
    )


def _asked_again(fresh: Recording, later: Recording) -> Recording:
    """The recording of ``fresh``, with what ``later`` was answered in place of its own judged passes."""
    return replace(fresh, passes=(*_opening(fresh), *as_asked_after(fresh, later)), finished=True, skipped=())


def _opening(recording: Recording) -> tuple[Pass, ...]:
    """What was asked before the first transition (null transitions are none), held-out prompts left out."""
    first = Evidence(recording).first_transition
    return tuple(
        each
        for each in recording.passes
        if each.start.t < first and not all(recording.prompts[prompt].held_out for prompt in each.start.asked)
    )


def _same_questions(fresh: Recording, later: Recording) -> bool:
    """Whether all that was asked later was asked when the server was fresh, of the same prompts."""
    asked = {_conditions(each) for each in _opening(fresh)}
    return (
        bool(asked)
        and {_conditions(each) for each in _opening(later)} == asked
        and all(later.prompts[prompt] == fresh.prompts.get(prompt) for prompt in later.prompts)
        and (fresh.cell.max_tokens, fresh.cell.temperature) == (later.cell.max_tokens, later.cell.temperature)
    )


def _conditions(each: Pass) -> _Conditions:
    start = each.start
    return start.role, start.method, start.cache, start.concurrency, start.asked


def _told_other_checksums(fresh: Recording, later: Recording) -> bool:
    before, now = (next((e.checksums for e in each.weight_checksums), None) for each in (fresh, later))
    return before is not None and now is not None and before != now


def _no_longer_cached(fresh: Recording, later: Recording) -> int:
    """How many answers were computed that came from the prefix cache each time it was fresh."""
    known = _by_conditions(fresh)
    return sum(
        not _from_cache(later, prompt, each)
        and all(_from_cache(fresh, prompt, before) for before in known[_conditions(each)])
        for each in _opening(later)
        for prompt in each.start.asked
    )


def _from_cache(recording: Recording, prompt: str, each: Pass) -> bool:
    answer = each.answers.get(prompt)
    reply = Reply(start=each.start, answer=answer) if answer else None
    return reply is not None and mostly_cached(reply, recording.prompts[prompt])


def _come_again(fresh: Recording, later: Recording) -> bool:
    """Whether every answer is one of those that came under the same conditions, but for rounding."""
    known = _by_conditions(fresh)
    return all(
        any(
            _same(before.answers.get(prompt), each.answers.get(prompt)) for before in known[_conditions(each)]
        )
        for each in _opening(later)
        for prompt in each.start.asked
    )


def _by_conditions(recording: Recording) -> dict[_Conditions, list[Pass]]:
    passes: dict[_Conditions, list[Pass]] = {}
    for each in _opening(recording):
        passes.setdefault(_conditions(each), []).append(each)
    return passes


def _same(before: Answer | None, now: Answer | None) -> bool:
    """Whether both are usable and equal, their log-probabilities but for the order of float32 additions."""
    if before is None or now is None or before.failure or now.failure:
        return False
    if (before.token_ids, before.finish_reason) != (now.token_ids, now.finish_reason):
        return False
    if before.logprobs is None or now.logprobs is None:
        return before.logprobs is now.logprobs
    shift = np.abs(before.logprobs.chosen - now.logprobs.chosen)
    return bool((shift <= RESOLUTION).all())
