"""Whether the draft model still proposes what the engine accepts.

Speculative decoding corrects every wrong draft, so a broken draft model changes no answer:
only the counters of drafted and accepted tokens show it (vllm#52479).
"""

from __future__ import annotations

from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.history.observations import Observation

COLLAPSED = 0.5
"""To what part of its former rate acceptance must fall; it differs a little with what is generated."""

LEAST_DRAFTED = 100
"""Drafted tokens below which a rate says nothing."""


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find engines that accept much fewer of their drafts after a transition than before any."""
    seen = sorted(evidence.recording.observations, key=lambda each: each.t)
    before = [each for each in seen if each.t < evidence.first_transition]
    after = [each for each in seen if each.t >= evidence.first_transition]
    # The judged stretch begins where the undisturbed one ends.
    usual, judged = _acceptance(before), _acceptance([*before[-1:], *after])
    if usual is None or judged is None or judged >= COLLAPSED * usual:
        return ()
    return (
        Finding(
            checker="drafts",
            message=f"{judged:.0%} of the drafted tokens are accepted after the transition, "
            f"compared with {usual:.0%} before",
            strength=Strength.PROOF,
            evidence={"acceptance": judged, "baseline_acceptance": usual},
        ),
    )


def _acceptance(seen: list[Observation]) -> float | None:
    """Accepted per drafted token between the first and the last look; None where nothing was drafted."""
    if not seen:
        return None
    first, last = seen[0].counters, seen[-1].counters
    drafted = last.get("drafted_tokens", 0) - first.get("drafted_tokens", 0)
    accepted = last.get("accepted_tokens", 0) - first.get("accepted_tokens", 0)
    return accepted / drafted if drafted >= LEAST_DRAFTED else None
