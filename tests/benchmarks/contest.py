"""All comparators on the same recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.check import judge
from harness.check.evidence import Evidence
from harness.check.noise.budget import ErrorBudget
from harness.check.result import CellResult, Verdict
from harness.history.recording import Recording, load_recording
from tests.benchmarks.cutting import cut
from tests.benchmarks.equality_tests import OPINIONS
from tests.benchmarks.rivals import RIVALS, Opinion

OURS = "sleepwake"
OTHERS: Mapping[str, Callable[[Recording], Opinion]] = {**RIVALS, **OPINIONS}
"""Comparators of other projects, and tests from the literature."""
BUDGET = ErrorBudget(cells=5)
"""With it the tests of whole passes share 1e-3 in a recording, the error rate that the rivals have."""

CUTS = (4, 8, 16, 32, 48)
"""Tokens an answer to which recordings are cut, to see how many a comparator needs."""


class Outcome(StrEnum):
    """What a comparator says of one recording."""

    ALARM = "alarm"
    SILENCE = "silence"
    INCONCLUSIVE = "inconclusive"
    """It says itself that it cannot tell; neither alarm nor silence."""


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What one comparator says of one recording.

    ``tokens`` were generated or scored after a transition and looked at.  ``tokens_needed`` is the
    fewest of them at which it alarms still, where the recording is cut; None unless a fault was detected.
    """

    outcome: Outcome
    tokens: int
    reason: str
    tokens_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """One recording: what was true of its engine, and what every comparator says."""

    engine: str
    name: str
    fault: str | None
    arm_args: tuple[str, ...]
    concurrency: int
    result: CellResult
    rulings: Mapping[str, Ruling]


def score_file(path: Path) -> Score:
    """Score ``<engine>/cells/<name>/history.jsonl``.

    Raises:
        HistoryError: it cannot be read.
    """
    return score(load_recording(path.parent), engine=path.parents[2].name, name=path.parent.name)


def score(recording: Recording, *, engine: str, name: str) -> Score:
    """Let every comparator rule on ``recording``; the truth is whether a fault was planted."""
    result = judge(recording, budget=BUDGET)
    rulings = {OURS: our_ruling(recording, result)}
    rulings |= {rival: rivals_ruling(recording, rival) for rival in OTHERS}
    if recording.cell.fault is not None:
        rulings = {who: _with_tokens_needed(recording, who, ruling) for who, ruling in rulings.items()}
    return Score(
        engine=engine,
        name=name,
        fault=recording.cell.fault,
        arm_args=recording.cell.arm_args,
        concurrency=recording.cell.concurrency,
        result=result,
        rulings=rulings,
    )


def our_ruling(recording: Recording, result: CellResult) -> Ruling:
    """Say what our verdict amounts to; a cell that broke off without one is inconclusive."""
    outcome = {
        Verdict.CLEAN: Outcome.SILENCE,
        Verdict.CORRUPT: Outcome.ALARM,
        Verdict.DEGRADED: Outcome.ALARM,
        Verdict.INCONCLUSIVE: Outcome.INCONCLUSIVE,
        None: Outcome.INCONCLUSIVE,
    }[result.verdict]
    judged = Evidence(recording).after_replies
    return Ruling(
        outcome=outcome,
        tokens=sum(len(reply.answer.token_ids) for reply in judged),
        reason=result.reason,
    )


def rivals_ruling(recording: Recording, rival: str) -> Ruling:
    """Ask one of the rivals; none of them knows "inconclusive"."""
    opinion = OTHERS[rival](recording)
    outcome = Outcome.ALARM if opinion.alarm else Outcome.SILENCE
    return Ruling(outcome=outcome, tokens=opinion.tokens, reason=opinion.reason)


def _with_tokens_needed(recording: Recording, who: str, whole: Ruling) -> Ruling:
    if whole.outcome is not Outcome.ALARM:
        return whole
    rule = _rule_of(who)
    needed = next(
        (
            shorter.tokens
            for shorter in (rule(cut(recording, tokens=tokens)) for tokens in CUTS)
            if shorter.outcome is Outcome.ALARM
        ),
        whole.tokens,
    )
    return Ruling(outcome=whole.outcome, tokens=whole.tokens, reason=whole.reason, tokens_needed=needed)


def _rule_of(who: str) -> Callable[[Recording], Ruling]:
    if who == OURS:
        return lambda recording: our_ruling(recording, judge(recording, budget=BUDGET))
    return lambda recording: rivals_ruling(recording, who)
