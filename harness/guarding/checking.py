"""One check: the canaries once more, control questions where something is odd, and the judgement.

A check may be followed by any number of others, so none asks what would change the engine: its weights are
not loaded again and its caches are not reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.check import judge
from harness.check.evidence import Evidence
from harness.check.noise.budget import ErrorBudget
from harness.check.result import CellResult, Verdict
from harness.guarding.baseline import History
from harness.guarding.canaries import MOST_PASSES
from harness.guarding.messages import Facts
from harness.guarding.passes import Asker, fresh_salt
from harness.guarding.steps import asking
from harness.history.events import CellFinished, CellShortened, RequestsCounted
from harness.history.passes import CacheCondition, Control, Role

NOT_COMPARED = "a new baseline was taken and not compared: the new weights came without a reference"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came of a check."""

    result: CellResult
    salt: str
    """Under which what the engine has cached is asked for next time."""


def check(
    asker: Asker,
    facts: Facts,
    history: History,
    *,
    salt: str,
    passes: int,
    budget: ErrorBudget,
    compared: bool = True,
) -> Checked:
    """Ask, record and judge.

    Args:
        asker: Asks.
        facts: What the engine is.
        history: Takes what comes back; it holds the baseline and what was done to the engine since.
        salt: Under which the canaries were cached before.
        passes: How many passes may be asked before anything is odd.
        budget: What the check may spend on false alarms.
        compared: Whether the baseline can be held against the engine; if not, it only shows what is stale.

    Raises:
        EngineFailedError: the engine raised instead of answering.
    """
    step, recorder = str(history.next_step), history.recorder
    asked_before = asker.passes
    with asking(recorder, step, "probe"):
        for cache in _conditions(facts, passes=passes, compared=compared):
            asker.ask(recorder, step=step, role=Role.AFTER, cache=cache, salt=salt)
        healed = _ask_controls(asker, history, step=step, salt=salt, budget=budget)
    own = (asker.passes - asked_before) * len(asker.canaries)
    # Where others may ask meanwhile, nobody counts what they do.
    ended, aborted = (None, None) if facts.serves_others else (own, 0)
    recorder.record(RequestsCounted(t=recorder.now(), ended=ended, aborted=aborted, own=own))
    if not compared:
        recorder.record(CellShortened(t=recorder.now(), skipped=("compare",), because=NOT_COMPARED))
    recorder.record(CellFinished(t=recorder.now()))
    result = judge(history.recording, budget=budget)
    return Checked(result=result, salt=salt if result.verdict is not Verdict.CORRUPT else healed)


def _conditions(facts: Facts, *, passes: int, compared: bool) -> Sequence[CacheCondition]:
    if not facts.caches_prompts or not compared:
        return (CacheCondition.WARM,)
    return (CacheCondition.WARM, CacheCondition.REHIT)[: min(passes, MOST_PASSES)]


def _ask_controls(asker: Asker, history: History, *, step: str, salt: str, budget: ErrorBudget) -> str:
    """Ask what decides on the cause, where answers bear damage; return a salt under which nothing does.

    What a damaged engine has cached is not asked for again, or the next check would find the same once more.
    """
    evidence = Evidence(history.recording, budget=budget)
    damaged = {pair.prompt.id for pair in evidence.damaged}
    if not damaged:
        return salt
    known = next((each.checksums for each in history.recording.weight_checksums if each.checksums), None)
    if known is not None:
        asker.look_at_weights(history.recorder, step=step, names=known)

    def ask(control: Control, cache: CacheCondition, salt: str) -> None:
        asker.ask(
            history.recorder,
            step=step,
            role=Role.CONTROL,
            cache=cache,
            salt=salt,
            control=control,
            about=damaged,
        )

    ask(Control.ASKED_AGAIN, evidence.damaged[0].reply.start.cache, salt)
    if not asker.takes_salt:
        return salt
    other = fresh_salt()
    ask(Control.FRESH_SALT, CacheCondition.COLD, other)
    seen = Evidence(history.recording, budget=budget)
    answers = seen.control(Control.FRESH_SALT)
    return other if seen.healed(answers) == len(damaged) else fresh_salt()
