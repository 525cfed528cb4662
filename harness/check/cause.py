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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.check import timeline
from harness.check.comparison import Comparison
from harness.check.evidence import Evidence
from harness.check.result import Cause, ControlOutcome
from harness.check.wording import counted
from harness.history.events import Control

TOLERANCE = 1e-2
"""nat; how far a healed token's log-probability may lie from the baseline's.

Controls ask fewer prompts at once than the baseline did, and batches of another size round
differently.  vLLM's own sleep test allows as much (tests/entrypoints/serve/dev/test_sleep_wake.py).
"""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A cause, the controls that were asked, and what they exclude."""

    cause: Cause
    because: str
    """Why, in half a sentence; empty for an unknown cause."""
    controls: tuple[ControlOutcome, ...] = ()
    ruled_out: tuple[str, ...] = ()


def attribute(evidence: Evidence, damaged: Sequence[Comparison]) -> Attribution:
    """Say what damaged the answers in ``damaged``, as far as the recorded controls can tell."""
    clues = _Clues(evidence, tuple(damaged))
    cause, because = _decide(clues)
    return Attribution(
        cause=cause,
        because=because,
        controls=tuple(clues.outcomes.values()),
        ruled_out=tuple(_ruled_out(clues)) if cause is Cause.UNKNOWN else (),
    )


def _decide(clues: _Clues) -> tuple[Cause, str]:
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


def _decide_without_answers(clues: _Clues) -> tuple[Cause, str]:
    kinds = {reply.answer.failure.kind for reply in clues.evidence.failed if reply.answer.failure}
    if kinds and kinds <= {"timeout", "connection"}:
        return Cause.SCHEDULER, "requests the engine answered before the transition do not return any more"
    return Cause.UNKNOWN, ""


@dataclass(frozen=True)
class _Clues:
    """What the controls, and the passes themselves, say about the damage."""

    evidence: Evidence
    damaged: tuple[Comparison, ...]

    @cached_property
    def outcomes(self) -> Mapping[Control, ControlOutcome]:
        """Every control that was asked; a probe's own cold pass stands in for the fresh-salt control."""
        asked = {control: self._outcome(control) for control in Control}
        if asked[Control.FRESH_SALT] is None:
            asked[Control.FRESH_SALT] = self._cold_pass_as_control()
        return {control: outcome for control, outcome in asked.items() if outcome is not None}

    @cached_property
    def cold_is_damaged(self) -> bool:
        """Whether answers are wrong that nothing from the prefix cache can have entered."""
        fresh = self.outcomes.get(Control.FRESH_SALT)
        computed = any(
            not each.reply.shares_salt or each.reply.answer.cached_tokens == 0 for each in self.damaged
        )
        return computed or (fresh is not None and fresh.healed < fresh.asked)

    @property
    def prefix_cache_only(self) -> bool:
        """Whether damage came with cached reads alone, and every control agrees with that."""
        return (
            not self.cold_is_damaged
            and self._heals(Control.FRESH_SALT)
            and not self._stays_bad(Control.RESET_PREFIX_CACHE)
            and not self._stays_bad(Control.UNSEEN_PROMPTS)
        )

    @property
    def unseen_hold(self) -> bool:
        """Whether prompts the engine had not seen since the baseline are all answered as then."""
        return self._heals(Control.UNSEEN_PROMPTS)

    @property
    def reload_fails(self) -> bool:
        """Whether loading the weights again leaves damage."""
        return self._stays_bad(Control.RELOAD_WEIGHTS)

    @cached_property
    def changed_weights(self) -> tuple[str, ...] | None:
        """Parameters whose checksum is not what it was before the first transition; None where not told."""
        told = [each for each in self.evidence.recording.weight_checksums if each.checksums is not None]
        before = [each for each in told if each.t < self.evidence.first_transition]
        after = [each for each in told if each.t >= self.evidence.first_transition]
        if not before or not after:
            return None
        # The first look after the transition: a later one may follow a reload.
        was, now = before[-1].checksums or {}, after[0].checksums or {}
        return tuple(sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name)))

    @property
    def checksums_equal(self) -> bool:
        """Whether checksums were told before and after, and none changed."""
        return self.changed_weights == ()

    def for_prefix_cache(self) -> Iterator[str]:
        """Yield what speaks for a stale prefix cache."""
        cached = [each for each in self.damaged if each.reply.cached > 0]
        if cached:
            yield f"{len(cached)} of {len(self.damaged)} damaged answers read prompt tokens from the cache"
        for control, words in (
            (Control.FRESH_SALT, "a fresh cache salt heals"),
            (Control.RESET_PREFIX_CACHE, "resetting the prefix cache heals"),
            (Control.UNSEEN_PROMPTS, "unseen prompts hold:"),
        ):
            outcome = self.outcomes.get(control)
            if outcome is not None:
                yield f"{words} {outcome.healed} of {outcome.asked}"

    def for_weights(self) -> Iterator[str]:
        """Yield what speaks for lost weights; nothing if no control does."""
        first = min(each.reply.start.t for each in self.damaged)
        if self.changed_weights:
            yield f"the checksums of {counted(len(self.changed_weights), 'parameter')} changed"
        if self._heals(Control.RELOAD_WEIGHTS):
            outcome = self.outcomes[Control.RELOAD_WEIGHTS]
            yield f"loading the weights again heals {outcome.healed} of {outcome.asked}"
        if timeline.weights_missing(self.evidence.recording, at=first) and not self.reload_fails:
            yield "the script discards the weights (sleep level 2) and does not load them again"

    def for_buffers(self) -> Iterator[str]:
        """Yield what is left when neither the prefix cache nor the weights are to blame."""
        yield "answers computed without the prefix cache are damaged as well"
        yield "every weight checksum is unchanged"
        outcome = self.outcomes[Control.RELOAD_WEIGHTS]
        yield f"loading the weights again heals {outcome.healed} of {outcome.asked}"

    def _outcome(self, control: Control) -> ControlOutcome | None:
        replies = self.evidence.control_replies(control)
        if not replies:
            return None
        healed = sum(map(_holds, self.evidence.control(control)))
        return ControlOutcome(control=control.value, asked=len(replies), healed=healed)

    def _cold_pass_as_control(self) -> ControlOutcome | None:
        suspects = {
            (each.reply.start.step, each.prompt.id) for each in self.damaged if each.reply.shares_salt
        }
        cold = [
            each
            for each in self.evidence.after
            if not each.reply.shares_salt and (each.reply.start.step, each.prompt.id) in suspects
        ]
        if not cold:
            return None
        return ControlOutcome(
            control=Control.FRESH_SALT.value,
            asked=len(cold),
            healed=sum(map(_holds, cold)),
            note="the cold pass of the same probe",
        )

    def _heals(self, control: Control) -> bool:
        outcome = self.outcomes.get(control)
        return outcome is not None and outcome.healed == outcome.asked

    def _stays_bad(self, control: Control) -> bool:
        outcome = self.outcomes.get(control)
        return outcome is not None and outcome.healed < outcome.asked


def _holds(comparison: Comparison) -> bool:
    """Whether an answer is the baseline's again, up to the rounding of another batch size."""
    shift = comparison.logprob_shift
    return comparison.same_tokens and comparison.same_ending and (shift is None or shift <= TOLERANCE)


def _ruled_out(clues: _Clues) -> Iterator[str]:
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
