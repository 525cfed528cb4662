"""Which root cause the control questions leave, and which they rule out.

Only controls decide, never what a damaged answer looks like:

===================  ===========  ==============  ==============  ====================
cause                fresh salt   unseen prompts  reload weights  weight checksums
===================  ===========  ==============  ==============  ====================
stale prefix cache   heals        hold            not needed      unchanged
lost weights         stays bad    bad             heals           changed, where told
lost buffers         stays bad    bad             stays bad       unchanged
===================  ===========  ==============  ==============  ====================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.check.case import Case
from harness.check.clues import Clues
from harness.check.result import Cause, ControlOutcome
from harness.history.events import Control


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A cause, the controls that were asked, and what they exclude."""

    cause: Cause
    because: str
    """Why, in half a sentence; empty for an unknown cause."""
    controls: tuple[ControlOutcome, ...] = ()
    ruled_out: tuple[str, ...] = ()


def attribute(case: Case) -> Attribution:
    """Say what damaged the answers, as far as the recorded controls can tell."""
    clues = Clues(case)
    cause, because = _decide(clues)
    return Attribution(
        cause=cause,
        because=because,
        controls=tuple(clues.outcomes.values()),
        ruled_out=tuple(_ruled_out(clues)) if cause is Cause.UNKNOWN else (),
    )


def _decide(clues: Clues) -> tuple[Cause, str]:
    if not clues.damaged:
        return _decide_without_answers(clues)
    if clues.prefix_cache_only:
        return Cause.STALE_PREFIX_CACHE, "; ".join(clues.for_prefix_cache())
    if clues.cold_is_damaged and not clues.unseen_hold:
        if weights := tuple(clues.for_weights()):
            return Cause.LOST_WEIGHTS, "; ".join(weights)
        if clues.checksums_equal and clues.reload_fails:
            return Cause.LOST_BUFFERS, "; ".join(clues.for_buffers())
    return Cause.UNKNOWN, ""


def _decide_without_answers(clues: Clues) -> tuple[Cause, str]:
    kinds = {reply.answer.failure.kind for reply in clues.case.evidence.failed if reply.answer.failure}
    if kinds and kinds <= {"timeout", "connection"}:
        return Cause.SCHEDULER, "requests the engine answered before the transition do not return any more"
    return Cause.UNKNOWN, ""


def _ruled_out(clues: Clues) -> Iterator[str]:
    fresh = clues.outcomes.get(Control.FRESH_SALT)
    if clues.cold_is_damaged:
        healed = f" (a fresh salt heals {fresh.healed} of {fresh.asked})" if fresh else ""
        yield f"stale prefix cache alone: answers computed without it are damaged as well{healed}"
    if clues.checksums_equal:
        yield "lost weights: every weight checksum is unchanged"
    elif clues.reload_fails:
        yield "lost weights alone: loading them again does not heal"
    elif clues.unseen_hold:
        yield "lost weights: unseen prompts are answered as before"
