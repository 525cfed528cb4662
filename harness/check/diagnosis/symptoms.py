"""What the controls, and the passes themselves, say about the damage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.check import lifecycle_calls
from harness.check.answer_pair import AnswerPair, Reply, mostly_cached
from harness.check.checkers.cache import keeps_kv_elsewhere
from harness.check.checkers.weights import changed
from harness.check.diagnosis.lasting import Lasting
from harness.check.diagnosis.ranks import on_ranks
from harness.check.evidence import Evidence
from harness.check.result import ControlOutcome
from harness.check.told_configuration import quantises_kv_cache
from harness.check.wording import control_sentence, counted
from harness.history.observations import WeightChecksums
from harness.history.passes import Control, Method

INTACT_SHARE = 0.25
"""Part of the answers of damaged passes that must begin as before; what serves every prompt damages all."""

NEAR = 0.6
"""Part of the resolution: noise that moves hardly any contrast by all of it moves most by less than that."""

NEAR_SHARE = 0.75
"""Where at least so many null answers are near, so many of those that begin as before must be."""

SMALLEST_CONTRAST = 0.1
"""nat; first tokens' candidates that are nearer say too little about a common factor."""

NAMED = 3
"""So many parameters, at the most, are called by their names."""

_Checksums: TypeAlias = Callable[[WeightChecksums], Mapping[str, str] | None]
"""What is told of parameters, or of buffers."""

_Contrasts: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Symptoms:
    """What the controls, and the passes themselves, say about the damage."""

    evidence: Evidence

    @property
    def damaged(self) -> tuple[AnswerPair, ...]:
        """The answers that bear the damage."""
        return self.evidence.damaged

    @cached_property
    def outcomes(self) -> Mapping[Control, ControlOutcome]:
        """Every control that was asked; a probe's own cold pass stands in for the fresh-salt control."""
        asked = {control: self._outcome(control) for control in Control}
        if asked[Control.FRESH_SALT] is None:
            asked[Control.FRESH_SALT] = self._cold_pass_as_control()
        return {control: outcome for control, outcome in asked.items() if outcome is not None}

    @cached_property
    def lasting(self) -> Lasting:
        """Whether the damage stayed while nothing was done about it."""
        return Lasting(self.evidence, self._steps)

    @property
    def comes_and_goes(self) -> bool:
        """Whether damaged prompts were right when asked again, although nothing had been done about them."""
        return bool(self.damaged) and self.lasting.comes_and_goes

    @cached_property
    def cold_is_damaged(self) -> bool:
        """Whether answers are wrong that nothing from the prefix cache can have entered.

        A salt that was never used before keeps it out, unless it shows that salts no longer do.
        """
        if self.only_a_reset_heals:
            return False
        if any(self._is_computed(each.reply) for each in self.damaged):
            return True
        fresh = self._asked(Control.FRESH_SALT)
        ignored = bool(fresh) and all(self._is_read(reply) for reply in fresh)
        return self.stays_bad(Control.FRESH_SALT) and not ignored

    @cached_property
    def only_a_reset_heals(self) -> bool:
        """Whether forgetting the prefix cache heals what a fresh salt does not, and nothing was computed."""
        suspected = (*(each.reply for each in self.damaged), *self._asked(Control.FRESH_SALT))
        return (
            self.heals(Control.RESET_PREFIX_CACHE)
            and self.stays_bad(Control.FRESH_SALT)
            and not any(self._is_computed(reply) for reply in suspected if _tells_what_was_cached(reply))
        )

    def _is_computed(self, reply: Reply) -> bool:
        """Whether its prompt was computed, as far as the engine tells; of one with its own salt, mostly."""
        return reply.answer.cached_tokens == 0 or not (reply.shares_salt or self._is_read(reply))

    def _is_read(self, reply: Reply) -> bool:
        return mostly_cached(reply, self.evidence.recording.prompts[reply.answer.prompt])

    @cached_property
    def computed_that_hold(self) -> int:
        """How many answers that computed their prompt, or most of it, hold; 0 if any of them is damaged."""
        if not all(mostly_cached(each.reply, each.prompt) for each in self.damaged):
            return 0
        return sum(not mostly_cached(each.reply, each.prompt) for each in self.evidence.after)

    @property
    def only_sampled(self) -> bool:
        """Whether only sampled answers are wrong, and every other one is the baseline's."""
        methods = {each.reply.start.method for each in self.evidence.after}
        return {each.reply.start.method for each in self.damaged} == {Method.SAMPLED} != methods

    @cached_property
    def damaged_adapters(self) -> tuple[str, ...]:
        """The adapters whose answers are damaged; none where the base model's are damaged as well."""
        asked = dict.fromkeys(each.reply.start.adapter for each in self.damaged)
        return () if None in asked else tuple(name for name in asked if name is not None)

    @property
    def has_connector(self) -> bool:
        """Whether the engine keeps KV blocks in another place as well."""
        return keeps_kv_elsewhere(self.evidence.recording.cell.arm_args)

    @cached_property
    def read_past_the_salt(self) -> int:
        """How many damaged answers read their prompt from a cache under a salt never used before.

        The prefix cache cannot have it: block hashes begin with the salt (vllm/v1/core/kv_cache_utils.py).
        A connector may go by the tokens alone, as vLLM's ExampleConnector does.
        """
        return sum(
            not each.reply.shares_salt and mostly_cached(each.reply, each.prompt) for each in self.damaged
        )

    @cached_property
    def control_reads_past_the_salt(self) -> int:
        """How many questions under the control's fresh salt read their prompt from a cache; 0 if that heals.

        Nor does forgetting the prefix cache heal: what was read is kept elsewhere.
        """
        if not self.stays_bad(Control.FRESH_SALT) or not self.stays_bad(Control.RESET_PREFIX_CACHE):
            return 0
        return sum(self._is_read(reply) for reply in self._asked(Control.FRESH_SALT))

    @property
    def quantised_kv_cache(self) -> bool:
        """Whether the KV cache is stored in fewer bits, and so needs scales."""
        return quantises_kv_cache(self.evidence.recording)

    @cached_property
    def intact_first_tokens(self) -> str:
        """In words, how many answers of the damaged passes begin as before; empty where too few do."""
        passes = {each.reply.start.number for each in self.damaged}
        return self._intact([each for each in self.evidence.after if each.reply.start.number in passes])

    @property
    def intact_after_reload(self) -> str:
        """The same of the answers that loading the weights left damaged; empty where it left none."""
        left = self.reload_fails
        return self._intact(self.evidence.control(Control.RELOAD_WEIGHTS)) if left else ""

    def _intact(self, pairs: Sequence[AnswerPair]) -> str:
        computed = [each for each in pairs if not each.reply.cached]
        null = [each for each in self.evidence.null if not each.reply.cached]
        intact = count_intact(computed, tolerance=self.evidence.resolution, null=null)
        if intact == 0 or intact < INTACT_SHARE * len(computed):
            return ""
        return f"{intact} of {len(computed)} answers computed from the prompt begin as before"

    @property
    def unseen_hold(self) -> bool:
        """Whether prompts the engine had not seen since the baseline are all answered as then.

        They are few and have no null answers: they tell nothing about damage that shows
        only in many answers together.
        """
        return self.evidence.shows_in_single_answers and self.heals(Control.UNSEEN_PROMPTS)

    @property
    def reload_fails(self) -> bool:
        """Whether loading the weights again leaves damage."""
        return self.stays_bad(Control.RELOAD_WEIGHTS)

    @cached_property
    def changed_weights(self) -> tuple[str, ...] | None:
        """Parameters whose checksum is not what it was before the first transition; None where not told."""
        return self._changed(lambda told: told.checksums)

    @property
    def told_weights(self) -> Collection[str]:
        """The names of all parameters whose checksum the engine ever told."""
        return {name for each in self.evidence.recording.weight_checksums for name in each.checksums or ()}

    @cached_property
    def changed_buffers(self) -> tuple[str, ...] | None:
        """The same of buffers."""
        return self._changed(lambda told: told.buffers)

    @property
    def weights_are_back(self) -> bool:
        """Whether the latest look found every parameter as it was before the first transition."""
        return self._changed(lambda told: told.checksums, look=-1) == ()

    def _changed(self, of: _Checksums, *, look: int = 0) -> tuple[str, ...] | None:
        evidence = self.evidence
        reference = self.damaged[0].reply.start.reference if self.damaged else evidence.first_reference
        changed_from = evidence.first_transition_since(reference)
        told = [
            each
            for each in evidence.recording.weight_checksums
            if of(each) is not None and each.reference == reference
        ]
        before = [each for each in told if each.t < changed_from]
        damaged_from = min((each.reply.start.t for each in self.damaged), default=changed_from)
        after = [each for each in told if each.t >= max(changed_from, damaged_from)]
        if not before or not after:
            return None
        # By default the first look after the transition: a later one may follow a reload.
        return changed(of(before[-1]) or {}, of(after[look]) or {})

    @property
    def checksums_equal(self) -> bool:
        """Whether checksums were told before and after, and none changed."""
        return self.changed_weights == ()

    @property
    def buffers_equal(self) -> bool:
        """Whether the same is known of buffers."""
        return self.changed_buffers == ()

    def for_cached_reads(self) -> Iterator[str]:
        """Yield what speaks for a damaged copy of the KV blocks."""
        cached = [each for each in self.damaged if each.reply.cached > 0]
        if cached:
            yield f"{len(cached)} of {len(self.damaged)} damaged answers read prompt tokens from the cache"
        for control in (Control.FRESH_SALT, Control.RESET_PREFIX_CACHE, Control.UNSEEN_PROMPTS):
            outcome = self.outcomes.get(control)
            if outcome is not None:
                yield control_sentence(outcome)

    def for_kept_pictures(self) -> Iterator[str]:
        """Yield what speaks for stale outputs of an encoder."""
        yield "answers computed without the prefix cache are damaged as well"
        yield control_sentence(self.outcomes[Control.RESET_ENCODER_CACHE])

    def for_weights(self) -> Iterator[str]:
        """Yield what speaks for lost weights; nothing if no control does."""
        first = min(each.reply.start.t for each in self.damaged)
        if self.changed_weights:
            parameters = counted(len(self.changed_weights), "parameter")
            where = on_ranks(self.changed_weights, of=self.told_weights)
            named = f" ({', '.join(self.changed_weights)})" if len(self.changed_weights) <= NAMED else ""
            yield f"the checksums of {parameters} changed{where}{named}"
        if self.heals(Control.RELOAD_WEIGHTS):
            yield control_sentence(self.outcomes[Control.RELOAD_WEIGHTS])
        if lifecycle_calls.weights_missing(self.evidence.recording, at=first) and not self.reload_fails:
            yield "the script discards the weights (sleep level 2) and does not load them again"

    def for_whole_weights(self) -> Iterator[str]:
        """Yield what clears prefix cache and weights."""
        yield "answers computed without the prefix cache are damaged as well"
        if self.checksums_equal:
            both = "every weight checksum and every buffer's"
            yield f"{both if self.buffers_equal else 'every weight checksum'} is unchanged"
        if self.reload_fails:
            yield control_sentence(self.outcomes[Control.RELOAD_WEIGHTS])

    @cached_property
    def _steps(self) -> frozenset[str]:
        """Steps with damage: controls asked elsewhere say nothing about it."""
        return frozenset(each.reply.start.step for each in self.damaged)

    def _outcome(self, control: Control) -> ControlOutcome | None:
        """How a control came out; None where it was not asked, or the baseline knows no answer to it."""
        evidence = self.evidence
        asked = [reply for reply in self._asked(control) if evidence.reference_for(reply) is not None]
        if not asked:
            return None
        answered = [each for each in evidence.control(control) if each.reply.start.step in self._steps]
        return ControlOutcome(control=control.value, asked=len(asked), healed=self.evidence.healed(answered))

    def _cold_pass_as_control(self) -> ControlOutcome | None:
        suspects = {
            (each.reply.start.step, each.prompt.id) for each in self.damaged if each.reply.shares_salt
        }
        cold = [
            each
            for each in self.evidence.after
            if not each.reply.shares_salt
            and each.reply.start.method is Method.GENERATED
            and (each.reply.start.step, each.prompt.id) in suspects
        ]
        if not cold:
            return None
        return ControlOutcome(
            control=Control.FRESH_SALT.value,
            asked=len(cold),
            healed=self.evidence.healed(cold),
            note="the cold pass of the same probe",
        )

    def _asked(self, control: Control) -> tuple[Reply, ...]:
        """Every reply to a control that was asked where the damage is."""
        replies = self.evidence.control_replies(control)
        return tuple(reply for reply in replies if reply.start.step in self._steps)

    def heals(self, control: Control) -> bool:
        """Whether a control finds all answers right, and the damage was still there just before it."""
        outcome = self.outcomes.get(control)
        return (
            outcome is not None
            and outcome.healed == outcome.asked
            and self.lasting.was_there_before(control, asked=outcome.asked)
        )

    def stays_bad(self, control: Control) -> bool:
        """Whether a control was asked and left damage."""
        outcome = self.outcomes.get(control)
        return outcome is not None and outcome.healed < outcome.asked


def _tells_what_was_cached(reply: Reply) -> bool:
    return reply.answer.cached_tokens is not None


def count_intact(pairs: Sequence[AnswerPair], *, tolerance: float, null: Sequence[AnswerPair] = ()) -> int:
    """How many answers begin with the same contrasts as their baseline, up to one common factor.

    A first token comes from the prompt alone, through all weights and buffers.  If its candidates
    stand to each other as before, the model computed what it should, and damage further on is in
    what became of it.  A factor common to all counts as "as before": it is applied to finished
    logits.  Where far fewer of them than of ``null`` are near, the model did not: each is off by a
    little, and none counts.  Noise that moves most of them further says nothing of that.

    ``tolerance`` is how far a contrast may be off, nat.
    """
    intact = [each for each in _off(pairs) if each <= tolerance]
    usual = _share_near([each for each in _off(null) if each <= tolerance], tolerance)
    all_are_off = _share_near(intact, tolerance) < NEAR_SHARE <= usual
    return 0 if all_are_off else len(intact)


def _off(pairs: Sequence[AnswerPair]) -> list[float]:
    """How far the contrasts of each answer's first token are off, at most, less their common factor."""
    contrasts = [_contrasts(pair) for pair in pairs]
    factor = _common_factor(contrasts)
    return [float(np.abs(each[:, 1] - factor * each[:, 0]).max()) for each in contrasts if len(each)]


def _share_near(off: Sequence[float], tolerance: float) -> float:
    return sum(each <= NEAR * tolerance for each in off) / max(len(off), 1)


def _contrasts(pair: AnswerPair) -> _Contrasts:
    """Contrasts of the first token's candidates to the likeliest, before and after; none if that is lost."""
    before, after = pair.reference.answer.logprobs, pair.reply.answer.logprobs
    if before is None or after is None or not len(before.chosen) or not len(after.chosen):
        return np.empty((0, 2))
    now = dict(zip(after.top_ids[0].tolist(), after.top_values[0].tolist(), strict=True))
    was = list(zip(before.top_ids[0].tolist(), before.top_values[0].tolist(), strict=True))
    likeliest, value = was[0]
    if likeliest not in now:
        return np.empty((0, 2))
    found = [
        (value - other, now[likeliest] - now[token])
        for token, other in was[1:]
        if token >= 0 and token in now
    ]
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def _common_factor(contrasts: Sequence[_Contrasts]) -> float:
    every = np.concatenate([np.empty((0, 2)), *contrasts])
    clear = every[every[:, 0] >= SMALLEST_CONTRAST]
    return float(np.median(clear[:, 1] / clear[:, 0])) if len(clear) else 1.0
