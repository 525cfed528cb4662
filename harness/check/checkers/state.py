"""Whether the engine was in the state its answers claimed."""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import describe
from harness.history.observations import Observation, StepStarted

NOT_OFFERED = frozenset({404, 405, 501})
"""Statuses that mean the server has no such endpoint: a lack of evidence, not a defect."""


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find steps that an observation independent of their own answer contradicts."""
    unavailable = {step for step, _ in unavailable_calls(evidence)}
    # What a call that nobody waited for to its end did is not known.
    stopped = {call.step for call in evidence.lost_times.unanswered_calls}
    return tuple(
        Finding(
            checker="state",
            message=f"{describe(step)}{f', cycle {step.cycle}' if step.cycle else ''}: {contradiction}",
            strength=Strength.HINT if step.step in stopped else Strength.PROOF,
            cycle=step.cycle,
            evidence={"step": step.step},
        )
        for step in evidence.recording.steps
        if step.step not in unavailable
        for contradiction in _contradictions(evidence, step)
    )


def obstacles(evidence: Evidence) -> Iterator[str]:
    """Yield the first step after which a server that told its state before told nothing any more.

    What no look confirms may not have happened, whatever the call answered.  And yield which calls did not
    meet as the script wanted.
    """
    for step in evidence.recording.steps:
        end = evidence.recording.step_ends.get(step.step)
        yield from (f"{describe(step)}: {missed}" for missed in (end.missed if end else ()))
    told = [_tells(seen) for seen in evidence.recording.observations]
    if not any(told):
        return  # this release tells nothing at all
    for step in evidence.recording.steps:
        seen = list(_observed_after(evidence, step))
        if step.asleep_after is not None and seen and not any(map(_tells, seen)):
            yield (
                f"nothing confirmed {describe(step)}: the server had told whether it sleeps, and then told "
                "it neither at /is_sleeping nor at /metrics; see what stands before it"
            )
            return


def _tells(seen: Observation) -> bool:
    return seen.is_sleeping is not None or seen.sleep_state is not None


def unavailable_calls(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """Steps of the script whose endpoint the server does not have, with the call in words."""
    actions = evidence.recording.action_of_step
    return tuple(
        (call.step, f"{call.method} {call.path} answered {call.status}")
        for call in evidence.recording.calls
        # A probe's calls are control questions: an old server may lack what they ask for.
        if call.step is not None
        and call.status in NOT_OFFERED
        and (step := actions.get(call.step)) is not None
        and step.action != "probe"
        and not step.options.get("must_fail")
    )


def _contradictions(evidence: Evidence, step: StepStarted) -> Iterator[str]:
    end = evidence.recording.step_ends.get(step.step)
    if end is not None and end.unconfirmed:
        yield from end.unconfirmed
        return
    for seen in _observed_after(evidence, step):
        if None not in {seen.is_sleeping, step.asleep_after} and seen.is_sleeping is not step.asleep_after:
            yield f"/is_sleeping says {str(seen.is_sleeping).lower()}"


def _observed_after(evidence: Evidence, step: StepStarted) -> Iterator[Observation]:
    return (
        seen for seen in evidence.recording.observations if seen.step == step.step and seen.moment != "before"
    )
