"""Whether sleeping really gives memory back."""

from __future__ import annotations

from harness.check import timeline
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.history.events import Observation

MIB = 1024 * 1024

SMALLEST_RELEASE = 16 * MIB
"""Bytes; less than this is what an idle process gives back now and then by itself."""


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find sleeps after which the engine holds no less memory than before.

    "Less" means by more than the same measurement moved across the null transitions.
    Sleeps without a measurement before and after are left out.
    """
    floor = max(SMALLEST_RELEASE, largest_null_change(evidence))
    findings = []
    for sleep in timeline.sleeps(evidence.recording):
        if sleep.level < timeline.DISCARDS_KV_CACHE or sleep.step is None:
            continue
        change = _change(evidence, sleep.step)
        if change is None or change < -floor:
            continue
        step = evidence.recording.action_of_step.get(sleep.step)
        findings.append(
            Finding(
                checker="memory",
                message=f"sleep level {sleep.level}: memory in use changed by {change / MIB:+.0f} MiB, "
                f"it had to fall by more than {floor / MIB:.0f} MiB",
                strength=Strength.PROOF,
                cycle=step.cycle if step else None,
                evidence={"step": sleep.step, "change_bytes": change, "floor_bytes": floor},
            )
        )
    return tuple(findings)


def largest_null_change(evidence: Evidence) -> int:
    """How far the measured memory moved across null transitions, bytes; 0 where it was not measured."""
    changes = (
        _change(evidence, step.step) for step in evidence.recording.steps if step.action == "null_transition"
    )
    return max((abs(change) for change in changes if change is not None), default=0)


def _change(evidence: Evidence, step: str) -> int | None:
    """Memory after a step minus memory before it, bytes."""
    seen = [each for each in evidence.recording.observations if each.step == step]
    before = next((each for each in seen if each.moment == "before"), None)
    after = next((each for each in reversed(seen) if each.moment != "before"), None)
    # Who sleeps already has nothing more to give.
    if before is None or after is None or before.is_sleeping:
        return None
    return _difference(before, after)


def _difference(before: Observation, after: Observation) -> int | None:
    # On a GPU the weights move into resident memory while they leave the device's.
    if before.device_bytes is not None and after.device_bytes is not None:
        return after.device_bytes - before.device_bytes
    if before.resident_bytes is not None and after.resident_bytes is not None:
        return after.resident_bytes - before.resident_bytes
    return None
