"""Which root cause the control questions leave, and which they rule out.

Controls decide, and what the engine computed, never how a damaged answer reads:

====================  ===========  ==============  ===================  ======================
cause                 fresh salt   reload weights  checksums, if told   first computed token
====================  ===========  ==============  ===================  ======================
stale prefix cache    heals        not needed      unchanged            intact
kv connector          heals        not needed      unchanged            intact
lost weights          stays bad    heals           weights' changed     damaged
lost buffers          stays bad    stays bad       buffers' changed     damaged
kv scales             stays bad    either          unchanged            any, with an fp8 cache
kv cache              stays bad    stays bad       buffers' unchanged   damaged
graph or decode path  stays bad    stays bad       unchanged            intact, or only scaled
encoder cache         stays bad    not needed      unchanged            damaged, with a picture
====================  ===========  ==============  ===================  ======================

Where nobody tells buffers' checksums, lost buffers are what is left when weights are whole.

A control that finds all answers right has healed them only if they were damaged just before it
(:mod:`harness.check.diagnosis.lasting`).  Damage that comes and goes by itself is *intermittent*, whatever
seems to heal it, unless enough of it comes again to be told.  Where only forgetting the prefix cache heals,
a salt does not, and nothing was computed, salts no longer keep stale blocks apart.

An adapter is damaged where its computed answers are and the base model's are not, whatever else heals it:
loading the weights loads the adapters again (vllm/v1/worker/lora_model_runner_mixin.py).
Weights and buffers serve every prompt: where unseen prompts hold, they are whole.  Loading the
weights sets the scales of a quantised KV cache anew
(vllm/model_executor/layers/quantization/kv_cache.py): only checksums tell the two apart.
What is kept of pictures is known by the picture, not by the salt: where forgetting it heals, it was stale.
A connector differs from the prefix cache in that forgetting the prefix cache does not heal; or, if it
goes by the tokens alone, in that it serves a prompt under a salt never used before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.check.answer_pair import Reply
from harness.check.checkers import cache, unchanged_answers
from harness.check.diagnosis.symptoms import Symptoms
from harness.check.evidence import Evidence
from harness.check.result import Cause, ControlOutcome, Finding, Strength
from harness.check.wording import counted, describe
from harness.history.event_base import UNTIMELY
from harness.history.observations import Call
from harness.history.passes import Control

SCALES = ("k_scale", "v_scale")
"""How the buffers end that hold the scales of a quantised KV cache."""

DEAD_ENGINE = "EngineCore encountered an issue"
"""What vLLM says of an engine that is gone (EngineDeadError, vllm/v1/engine/exceptions.py)."""


Reasons = tuple[str, ...]
Decision = tuple[Cause, Reasons]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A cause, the controls that were asked, and what they exclude."""

    cause: Cause
    because: Reasons
    """What speaks for the cause, one observation each; empty for an unknown cause."""
    controls: tuple[ControlOutcome, ...] = ()
    ruled_out: tuple[str, ...] = ()
    others: tuple[tuple[Cause, Reasons], ...] = ()
    """Further causes that damage of their own proves, and why."""


def attribute(evidence: Evidence) -> Attribution:
    """Say what damaged the answers, as far as the recorded controls can tell."""
    symptoms = Symptoms(evidence)
    cause, because = _decide(symptoms)
    if symptoms.comes_and_goes and cause is Cause.UNKNOWN:
        cause, because = Cause.INTERMITTENT, (symptoms.lasting.sentence,)
    elif symptoms.comes_and_goes and cause is not Cause.INTERMITTENT:
        because = (*because, f"it comes and goes: {symptoms.lasting.sentence}")
    return Attribution(
        cause=cause,
        because=because,
        controls=tuple(symptoms.outcomes.values()),
        ruled_out=tuple(_ruled_out(symptoms)) if cause is Cause.UNKNOWN else (),
        others=tuple((each, why) for each, why in _others(symptoms, cause) if each is not cause),
    )


def _others(symptoms: Symptoms, cause: Cause) -> Iterator[Decision]:
    """Yield causes that are proven beside the first one, whatever that explains."""
    if cause is Cause.UNKNOWN:
        return
    if symptoms.damaged and cause is Cause.LOST_WEIGHTS:
        if symptoms.changed_buffers:
            yield _decide_on_buffers(symptoms.changed_buffers)
        elif symptoms.weights_are_back and (intact := symptoms.intact_after_reload):
            restored = "loading them again restores their checksums and not all answers"
            yield Cause.DECODE_PATH, (restored, intact)
    vouched = [each for each in cache.check(symptoms.evidence) if each.strength is Strength.PROOF]
    if vouched and cause is not Cause.KV_CONNECTOR:
        yield Cause.STALE_PREFIX_CACHE, (vouched[0].message,)


def _decide(symptoms: Symptoms) -> Decision:
    if not symptoms.damaged:
        return _decide_without_answers(symptoms)
    if symptoms.only_sampled:
        drawn = "greedy answers equal the baseline, and so do the candidates that were sampled from"
        return Cause.SCHEDULER, (f"{drawn}: only the random numbers differ",)
    if symptoms.comes_and_goes and not (symptoms.lasting.recurs or symptoms.changed_weights):
        return Cause.INTERMITTENT, (symptoms.lasting.sentence,)
    if part := _part_of_some_requests(symptoms):
        return part
    return (
        _decide_on_computed_answers(symptoms)
        if symptoms.cold_is_damaged
        else _decide_on_cached_reads(symptoms)
    )


def _part_of_some_requests(symptoms: Symptoms) -> Decision | None:
    """What only an engine with adapters, pictures or a connector has; None where it is none of these."""
    if symptoms.cold_is_damaged and symptoms.damaged_adapters and symptoms.heals(Control.BASE_MODEL):
        outcome = symptoms.outcomes[Control.BASE_MODEL]
        named = " and ".join(symptoms.damaged_adapters)
        return Cause.ADAPTER, (
            f"only answers of adapter {named} are damaged, including computed ones",
            f"the base model answers as before: {outcome.healed} of {outcome.asked}",
        )
    if symptoms.heals(Control.RESET_ENCODER_CACHE):
        return Cause.ENCODER_CACHE, tuple(symptoms.for_kept_pictures())
    if symptoms.has_connector and (symptoms.read_past_the_salt or symptoms.control_reads_past_the_salt):
        return _decide_on_reads_past_the_salt(symptoms)
    return None


def _decide_on_computed_answers(symptoms: Symptoms) -> Decision:
    if symptoms.comes_and_goes and not symptoms.changed_weights:
        return _decide_on_what_comes_and_goes(symptoms)
    if lost := _what_is_lost(symptoms):
        return lost
    if symptoms.checksums_equal or symptoms.reload_fails:
        return _decide_with_whole_weights(symptoms)
    return Cause.UNKNOWN, ()


def _decide_with_whole_weights(symptoms: Symptoms) -> Decision:
    whole = tuple(symptoms.for_whole_weights())
    if symptoms.quantised_kv_cache:
        return Cause.KV_SCALES, (*whole, "the KV cache is quantised")
    if intact := symptoms.intact_first_tokens:
        return Cause.DECODE_PATH, (*whole, intact)
    if symptoms.checksums_equal and symptoms.reload_fails and not symptoms.unseen_hold:
        # Where buffers tell that they are whole, what is computed from is; only keys and values are left.
        return Cause.KV_CACHE if symptoms.buffers_equal else Cause.LOST_BUFFERS, whole
    return Cause.UNKNOWN, ()


def _what_is_lost(symptoms: Symptoms) -> Decision | None:
    """Weights or buffers, where something speaks for their loss."""
    if symptoms.changed_buffers and not symptoms.changed_weights:
        return _decide_on_buffers(symptoms.changed_buffers)
    maybe_scales = symptoms.quantised_kv_cache and symptoms.checksums_equal
    if not (maybe_scales or symptoms.unseen_hold) and (weights := tuple(symptoms.for_weights())):
        return Cause.LOST_WEIGHTS, weights
    return None


def _decide_on_buffers(changed: Sequence[str]) -> Decision:
    because = (f"the checksums of {counted(len(changed), 'buffer')} changed",)
    scales = all(name.endswith(SCALES) for name in changed)
    return Cause.KV_SCALES if scales else Cause.LOST_BUFFERS, because


def _decide_on_what_comes_and_goes(symptoms: Symptoms) -> Decision:
    """What is lost stays lost: only what computes with it can be right in between."""
    intact = symptoms.intact_first_tokens
    if intact and (symptoms.checksums_equal or symptoms.reload_fails):
        return Cause.DECODE_PATH, (*symptoms.for_whole_weights(), intact)
    return Cause.INTERMITTENT, (symptoms.lasting.sentence,)


def _decide_on_cached_reads(symptoms: Symptoms) -> Decision:
    if symptoms.only_a_reset_heals:
        salts = "a cache salt no longer keeps prompts apart"
        return Cause.STALE_PREFIX_CACHE, (salts, *symptoms.for_cached_reads())
    if not symptoms.heals(Control.FRESH_SALT) or symptoms.stays_bad(Control.UNSEEN_PROMPTS):
        return Cause.UNKNOWN, ()
    if not symptoms.stays_bad(Control.RESET_PREFIX_CACHE):
        return Cause.STALE_PREFIX_CACHE, tuple(symptoms.for_cached_reads())
    if symptoms.has_connector:
        return Cause.KV_CONNECTOR, tuple(symptoms.for_cached_reads())
    return Cause.UNKNOWN, ()


def _decide_on_reads_past_the_salt(symptoms: Symptoms) -> Decision:
    if symptoms.computed_that_hold:
        right = f"all {symptoms.computed_that_hold} that computed it are right"
    elif symptoms.heals(Control.UNSEEN_PROMPTS):
        right = f"unseen prompts are right: all {symptoms.outcomes[Control.UNSEEN_PROMPTS].asked}"
    else:
        return Cause.UNKNOWN, ()
    read = f"{symptoms.read_past_the_salt} of {len(symptoms.damaged)} damaged answers"
    if not symptoms.read_past_the_salt:
        read = f"{symptoms.control_reads_past_the_salt} control questions"
    only = "from a cache under a salt never used before, which only a connector can serve"
    return Cause.KV_CONNECTOR, (f"{read} read their prompt {only}", right)


def _decide_on_likeness(alike: Sequence[Finding]) -> Decision:
    adapter = alike[0].evidence["adapter"]
    if adapter is None:
        return Cause.LOST_WEIGHTS, ("the newly loaded weights give the same answers as the ones before",)
    return Cause.ADAPTER, (f"the adapter {adapter} has no effect",)


def _decide_without_answers(symptoms: Symptoms) -> Decision:
    if alike := unchanged_answers.check(symptoms.evidence):
        return _decide_on_likeness(alike)
    if died := death_of_the_engine(symptoms.evidence):
        return Cause.SCHEDULER, (died,)
    failed = symptoms.evidence.failed
    kinds = {reply.answer.failure.kind for reply in failed if reply.answer.failure}
    if kinds and kinds <= {*UNTIMELY, "connection"}:
        return Cause.SCHEDULER, (
            "requests that the engine answered before the transition no longer return",
            *_others_do(symptoms),
        )
    if kinds == {"http"} and len(failed) < len(symptoms.evidence.after_replies):
        return Cause.DECODE_PATH, (
            "some requests fail with an error, as with NaN logits, and all others are answered as before",
        )
    return Cause.UNKNOWN, ()


def _others_do(symptoms: Symptoms) -> Iterator[str]:
    """Yield what became of the requests that were sent after those that did not return."""
    words = {Control.SAME_AGAIN: "the same one asked again", Control.CANARY: "another one"}
    answered = [
        said
        for control, said in words.items()
        if any(reply.answer.failure is None for reply in symptoms.evidence.control_replies(control))
    ]
    if answered:
        yield f"{' and '.join(answered)} did"


def _ruled_out(symptoms: Symptoms) -> Iterator[str]:
    fresh = symptoms.outcomes.get(Control.FRESH_SALT)
    if symptoms.cold_is_damaged:
        healed = f" (a fresh salt heals {fresh.healed} of {fresh.asked})" if fresh else ""
        yield f"stale prefix cache alone: answers computed without it are damaged as well{healed}"
    if symptoms.checksums_equal:
        yield "lost weights: every weight checksum is unchanged"
    elif symptoms.reload_fails:
        yield "lost weights alone: loading them again does not help"
    elif symptoms.unseen_hold:
        yield "lost weights: unseen prompts are answered as before"


def death_of_the_engine(evidence: Evidence) -> str | None:
    """Say after which transition the engine died; None where it lives, or nothing tells that it died.

    It died where no judged request is answered any more from one on, and one of them found nobody
    to answer: a server that is gone, or one that says so of its engine.
    """
    judged = sorted(evidence.after_replies, key=lambda reply: reply.answer.t)
    first = next((number for number, reply in enumerate(judged) if reply.answer.failure), len(judged))
    unanswered = judged[first:]
    if not all(reply.answer.failure for reply in unanswered) or not any(map(_nobody_there, unanswered)):
        return None
    began = unanswered[0].start.t
    before = [step for step in evidence.transitions if step.t < began]
    if not before:
        return None
    blamed = before[-1]
    call = next((each for each in reversed(evidence.recording.calls) if each.step == blamed.step), None)
    if call is not None and call.failure is not None and call.failure.kind == "connection":
        return f"the engine died during {describe(blamed)}"
    answered = sum(reply.answer.t > blamed.t for reply in judged[:first])
    moment = counted(answered, "answer") if answered else "at the first request"
    return f"the engine died {moment} after {describe(blamed)}{_what_it_said(call)}"


def _nobody_there(reply: Reply) -> bool:
    failure = reply.answer.failure
    return failure is not None and (failure.kind == "connection" or DEAD_ENGINE in failure.message)


def _what_it_said(call: Call | None) -> str:
    if call is None or call.status is None:
        return ""
    return f", which it had {'answered' if call.failure is None else 'refused'} with status {call.status}"
