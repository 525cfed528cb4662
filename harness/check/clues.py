"""What the controls, and the passes themselves, say about the damage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.check import timeline
from harness.check.case import Case
from harness.check.comparison import Comparison, mostly_cached
from harness.check.first_tokens import count_intact
from harness.check.result import ControlOutcome
from harness.check.wording import counted
from harness.history.events import Control, Method

INTACT_SHARE = 0.25
"""Part of the answers of damaged passes that must begin as before; what serves every prompt damages all."""


@dataclass(frozen=True)
class Clues:
    """What the controls, and the passes themselves, say about the damage."""

    case: Case

    @property
    def damaged(self) -> tuple[Comparison, ...]:
        """The answers that bear the damage."""
        return self.case.damaged

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

    @cached_property
    def computed_that_hold(self) -> int:
        """How many answers that computed their prompt, or most of it, hold; 0 if any of them is damaged."""
        if not all(mostly_cached(each.reply, each.prompt) for each in self.damaged):
            return 0
        return sum(not mostly_cached(each.reply, each.prompt) for each in self.case.evidence.after)

    @property
    def only_sampled(self) -> bool:
        """Whether only sampled answers are wrong, and every other one is the baseline's."""
        methods = {each.reply.start.method for each in self.case.evidence.after}
        return {each.reply.start.method for each in self.damaged} == {Method.SAMPLED} != methods

    @cached_property
    def damaged_adapters(self) -> tuple[str, ...]:
        """The adapters whose answers are damaged; none where the base model's are damaged as well."""
        asked = dict.fromkeys(each.reply.start.adapter for each in self.damaged)
        return () if None in asked else tuple(name for name in asked if name is not None)

    @property
    def has_connector(self) -> bool:
        """Whether the engine keeps KV blocks in another place as well."""
        return re.search(r"--kv-(transfer-config|offloading-)", self._command_line) is not None

    @cached_property
    def read_past_the_salt(self) -> int:
        """How many damaged answers read their prompt from a cache under a salt never used before.

        The prefix cache cannot have it: block hashes begin with the salt (vllm/v1/core/kv_cache_utils.py).
        A connector may go by the tokens alone, as vLLM's ExampleConnector does.
        """
        return sum(
            not each.reply.shares_salt and mostly_cached(each.reply, each.prompt) for each in self.damaged
        )

    @property
    def quantised_kv_cache(self) -> bool:
        """Whether the KV cache is stored in eight bits, and so needs scales."""
        return re.search(r"--kv-cache-dtype[ =]fp8", self._command_line) is not None

    @cached_property
    def intact_first_tokens(self) -> str:
        """In words, how many answers of the damaged passes begin as before; empty where too few do."""
        passes = {each.reply.start.number for each in self.damaged}
        computed = [
            each
            for each in self.case.evidence.after
            if each.reply.start.number in passes and not each.reply.cached
        ]
        intact = count_intact(computed, tolerance=self.case.resolution)
        if intact == 0 or intact < INTACT_SHARE * len(computed):
            return ""
        return f"{intact} of {len(computed)} answers computed from the prompt begin as before"

    @property
    def unseen_hold(self) -> bool:
        """Whether prompts the engine had not seen since the baseline are all answered as then.

        They are few and have no null answers: they tell nothing about damage that shows
        only in many answers together.
        """
        return self.case.shows_in_single_answers and self.heals(Control.UNSEEN_PROMPTS)

    @property
    def reload_fails(self) -> bool:
        """Whether loading the weights again leaves damage."""
        return self.stays_bad(Control.RELOAD_WEIGHTS)

    @cached_property
    def changed_weights(self) -> tuple[str, ...] | None:
        """Parameters whose checksum is not what it was before the first transition; None where not told."""
        evidence = self.case.evidence
        reference = self.damaged[0].reply.start.reference if self.damaged else evidence.first_reference
        changed_from = evidence.first_transition_since(reference)
        told = [
            each
            for each in evidence.recording.weight_checksums
            if each.checksums is not None and each.reference == reference
        ]
        before = [each for each in told if each.t < changed_from]
        after = [each for each in told if each.t >= changed_from]
        if not before or not after:
            return None
        # The first look after the transition: a later one may follow a reload.
        was, now = before[-1].checksums or {}, after[0].checksums or {}
        return tuple(sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name)))

    @property
    def checksums_equal(self) -> bool:
        """Whether checksums were told before and after, and none changed."""
        return self.changed_weights == ()

    def for_cached_reads(self) -> Iterator[str]:
        """Yield what speaks for a damaged copy of the KV blocks."""
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

    def for_kept_pictures(self) -> Iterator[str]:
        """Yield what speaks for stale outputs of an encoder."""
        yield "answers computed without the prefix cache are damaged as well"
        outcome = self.outcomes[Control.RESET_ENCODER_CACHE]
        yield f"forgetting what was kept of pictures heals {outcome.healed} of {outcome.asked}"

    def for_weights(self) -> Iterator[str]:
        """Yield what speaks for lost weights; nothing if no control does."""
        first = min(each.reply.start.t for each in self.damaged)
        if self.changed_weights:
            yield f"the checksums of {counted(len(self.changed_weights), 'parameter')} changed"
        if self.heals(Control.RELOAD_WEIGHTS):
            outcome = self.outcomes[Control.RELOAD_WEIGHTS]
            yield f"loading the weights again heals {outcome.healed} of {outcome.asked}"
        if timeline.weights_missing(self.case.evidence.recording, at=first) and not self.reload_fails:
            yield "the script discards the weights (sleep level 2) and does not load them again"

    def for_whole_weights(self) -> Iterator[str]:
        """Yield what clears prefix cache and weights."""
        yield "answers computed without the prefix cache are damaged as well"
        if self.checksums_equal:
            yield "every weight checksum is unchanged"
        if self.reload_fails:
            outcome = self.outcomes[Control.RELOAD_WEIGHTS]
            yield f"loading the weights again heals {outcome.healed} of {outcome.asked}"

    @property
    def _command_line(self) -> str:
        return " ".join(self.case.evidence.recording.cell.arm_args)

    @cached_property
    def _steps(self) -> frozenset[str]:
        """Steps with damage: controls asked elsewhere say nothing about it."""
        return frozenset(each.reply.start.step for each in self.damaged)

    def _outcome(self, control: Control) -> ControlOutcome | None:
        """How a control came out; None where it was not asked, or the baseline knows no answer to it."""
        evidence = self.case.evidence
        asked = [
            reply
            for reply in evidence.control_replies(control)
            if reply.start.step in self._steps and evidence.reference_for(reply) is not None
        ]
        if not asked:
            return None
        answered = [each for each in evidence.control(control) if each.reply.start.step in self._steps]
        return ControlOutcome(control=control.value, asked=len(asked), healed=self.case.healed(answered))

    def _cold_pass_as_control(self) -> ControlOutcome | None:
        suspects = {
            (each.reply.start.step, each.prompt.id) for each in self.damaged if each.reply.shares_salt
        }
        cold = [
            each
            for each in self.case.evidence.after
            if not each.reply.shares_salt
            and each.reply.start.method is Method.GENERATED
            and (each.reply.start.step, each.prompt.id) in suspects
        ]
        if not cold:
            return None
        return ControlOutcome(
            control=Control.FRESH_SALT.value,
            asked=len(cold),
            healed=self.case.healed(cold),
            note="the cold pass of the same probe",
        )

    def heals(self, control: Control) -> bool:
        """Whether a control was asked and all its answers are the baseline's again."""
        outcome = self.outcomes.get(control)
        return outcome is not None and outcome.healed == outcome.asked

    def stays_bad(self, control: Control) -> bool:
        """Whether a control was asked and left damage."""
        outcome = self.outcomes.get(control)
        return outcome is not None and outcome.healed < outcome.asked
