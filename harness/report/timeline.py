"""What happened in a cell, in order: steps with what confirmed them, and the passes within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.check.answer_pair import AnswerPair
from harness.check.evidence import Evidence
from harness.check.wording import occasion
from harness.history.events import ServerReady
from harness.history.observations import Observation, StepStarted
from harness.history.passes import Method
from harness.history.recording import Pass, Recording
from harness.report.text import count, mebibytes, seconds
from harness.report.words import step_words


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One row of the timeline."""

    t: float
    kind: str
    """``server``, ``step``, ``pass`` or ``failure``."""
    what: str
    took: str
    seen: str
    """What was observed independently of the step itself."""
    trouble: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of time in which the engine was seen asleep."""

    start: float
    end: float


def moments(evidence: Evidence) -> list[Moment]:
    """Return the rows of the timeline, in the order things began."""
    recording = evidence.recording
    compared: dict[int, list[AnswerPair]] = {}
    for each in (*evidence.null, *evidence.after):
        compared.setdefault(each.reply.start.number, []).append(each)
    rows = [_step(recording, step) for step in recording.steps]
    rows += [_pass(asked, compared.get(asked.number, [])) for asked in recording.passes]
    if recording.server:
        rows.append(_server(recording.server))
    if recording.failure:
        rows.append(
            Moment(t=recording.failure.t, kind="failure", what=recording.failure.cause, took="", seen="")
        )
    order = {"server": 0, "step": 1, "pass": 2, "failure": 3}
    return sorted(rows, key=lambda row: (row.t, order[row.kind]))


def _server(ready: ServerReady) -> Moment:
    if ready.shared_with:
        what, took = f"reuses the server of {ready.shared_with[0]}", ""
    else:
        what, took = "server ready", seconds(ready.boot_seconds)
    return Moment(t=ready.t, kind="server", what=what, took=took, seen="")


def _step(recording: Recording, step: StepStarted) -> Moment:
    end = recording.step_ends.get(step.step)
    looks = [seen for seen in recording.observations if seen.step == step.step and seen.moment != "before"]
    cycle = f"cycle {step.cycle}: " if step.cycle else ""
    return Moment(
        t=step.t,
        kind="step",
        what=f"{cycle}{step_words(step)}",
        took=seconds(end.seconds) if end else "did not end",
        seen=_looked(looks[-1]) if looks else "",
        trouble=end.unconfirmed if end else (),
    )


def _looked(seen: Observation) -> str:
    asleep = {True: "asleep", False: "awake", None: ""}[seen.is_sleeping]
    state = seen.sleep_state if seen.sleep_state not in (None, asleep) else ""
    parts = [
        asleep,
        f"gauge {state}" if state else "",
        f"{mebibytes(seen.resident_bytes)} resident" if seen.resident_bytes is not None else "",
        f"{mebibytes(seen.device_bytes)} on the GPU" if seen.device_bytes is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _pass(each: Pass, compared: Sequence[AnswerPair]) -> Moment:
    start, answers = each.start, each.answers.values()
    failed = [answer for answer in answers if answer.failure]
    return Moment(
        t=start.t,
        kind="pass",
        what=f"pass {start.number}, {occasion(start)}: {count(len(answers), 'answer')}",
        took=seconds(max((answer.t for answer in answers), default=start.t) - start.t),
        seen=", ".join(filter(None, (_agreement(compared), _reads(each)))),
        trouble=tuple(f"{answer.prompt}: {answer.failure.message}" for answer in failed if answer.failure),
    )


def _agreement(compared: Sequence[AnswerPair]) -> str:
    if not compared:
        return ""
    if not compared[0].reply.start.method.tokens_are_given:
        return f"{sum(each.same_tokens for each in compared)} of {len(compared)} as in the baseline"
    shifts = [each.logprob_shift for each in compared if each.logprob_shift is not None]
    if not shifts:
        return ""
    largest = max(shifts)
    return (
        f"log-probabilities shifted by up to {largest:.3g} nat"
        if largest
        else "log-probabilities as in the baseline"
    )


def _reads(each: Pass) -> str:
    if each.start.method is Method.SCORED:
        return ""  # never reads the prefix cache
    told = [answer.cached_tokens for answer in each.answers.values() if answer.cached_tokens is not None]
    if not told:
        return "cache reads not reported" if each.answers else ""
    return f"{sum(told):,} prompt tokens from the cache" if any(told) else "nothing from the cache"


def sleep_phases(recording: Recording) -> list[Phase]:
    """When the engine was seen asleep: from the first look that says so to the first that says otherwise."""
    phases: list[Phase] = []
    since: float | None = None
    for seen in recording.observations:
        if seen.is_sleeping and since is None:
            since = seen.t
        elif seen.is_sleeping is False and since is not None:
            phases.append(Phase(start=since, end=seen.t))
            since = None
    if since is not None:
        phases.append(Phase(start=since, end=recording.observations[-1].t))
    return phases
