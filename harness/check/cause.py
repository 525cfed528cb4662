"""Which root cause the control questions leave, and which they rule out.

Controls decide, and what the engine computed, never how a damaged answer reads:

====================  ===========  ==============  =================  =====================
cause                 fresh salt   reload weights  weight checksums   first computed token
====================  ===========  ==============  =================  =====================
stale prefix cache    heals        not needed      unchanged          intact
kv connector          heals        not needed      unchanged          intact
lost weights          stays bad    heals           changed, if told   damaged
lost buffers          stays bad    stays bad       unchanged          damaged
kv scales             stays bad    either          unchanged          any, with an fp8 cache
graph or decode path  stays bad    stays bad       unchanged          intact, or only scaled
encoder cache         stays bad    not needed      unchanged          damaged, with a picture
====================  ===========  ==============  =================  =====================

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

from harness.check import adapters, death, drafts
from harness.check.case import Case
from harness.check.clues import Clues
from harness.check.result import Cause, ControlOutcome, Finding
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
    if clues.only_sampled:
        return Cause.SCHEDULER, (
            "greedy answers are the baseline's, and so are the candidates that were sampled from: "
            "the random numbers are not"
        )
    if clues.cold_is_damaged and clues.damaged_adapters and clues.heals(Control.BASE_MODEL):
        outcome = clues.outcomes[Control.BASE_MODEL]
        return Cause.ADAPTER, (
            f"only answers of the adapter {' and '.join(clues.damaged_adapters)} are damaged, computed ones "
            f"among them; the base model answers as before: {outcome.healed} of {outcome.asked}"
        )
    if clues.heals(Control.RESET_ENCODER_CACHE):
        return Cause.ENCODER_CACHE, "; ".join(clues.for_kept_pictures())
    if clues.has_connector and clues.read_past_the_salt:
        return _decide_on_reads_past_the_salt(clues)
    return _decide_on_computed_answers(clues) if clues.cold_is_damaged else _decide_on_cached_reads(clues)


def _decide_on_computed_answers(clues: Clues) -> tuple[Cause, str]:
    maybe_scales = clues.quantised_kv_cache and clues.checksums_equal
    if not (maybe_scales or clues.unseen_hold) and (weights := tuple(clues.for_weights())):
        return Cause.LOST_WEIGHTS, "; ".join(weights)
    if not (clues.checksums_equal or clues.reload_fails):
        return Cause.UNKNOWN, ""
    whole = "; ".join(clues.for_whole_weights())
    if clues.quantised_kv_cache:
        return Cause.KV_SCALES, f"{whole}; the KV cache is quantised"
    if intact := clues.intact_first_tokens:
        return Cause.DECODE_PATH, f"{whole}; {intact}"
    if clues.checksums_equal and clues.reload_fails and not clues.unseen_hold:
        return Cause.LOST_BUFFERS, whole
    return Cause.UNKNOWN, ""


def _decide_on_cached_reads(clues: Clues) -> tuple[Cause, str]:
    if not clues.heals(Control.FRESH_SALT) or clues.stays_bad(Control.UNSEEN_PROMPTS):
        return Cause.UNKNOWN, ""
    if not clues.stays_bad(Control.RESET_PREFIX_CACHE):
        return Cause.STALE_PREFIX_CACHE, "; ".join(clues.for_cached_reads())
    if clues.has_connector:
        return Cause.KV_CONNECTOR, "; ".join(clues.for_cached_reads())
    return Cause.UNKNOWN, ""


def _decide_on_reads_past_the_salt(clues: Clues) -> tuple[Cause, str]:
    if not clues.computed_that_hold:
        return Cause.UNKNOWN, ""
    return Cause.KV_CONNECTOR, (
        f"{clues.read_past_the_salt} of {len(clues.damaged)} damaged answers read their prompt from a cache "
        "under a salt never used before, which only a connector can serve; "
        f"all {clues.computed_that_hold} that computed it hold"
    )


def _decide_on_likeness(alike: Sequence[Finding]) -> tuple[Cause, str]:
    adapter = alike[0].evidence["adapter"]
    if adapter is None:
        return Cause.LOST_WEIGHTS, "the weights that were to be loaded answer as those before them did"
    return Cause.ADAPTER, f"the adapter {adapter} has no effect"


def _decide_without_answers(clues: Clues) -> tuple[Cause, str]:
    if alike := adapters.check(clues.case.evidence):
        return _decide_on_likeness(alike)
    if died := death.of_the_engine(clues.case.evidence):
        return Cause.SCHEDULER, died
    failed = clues.case.evidence.failed
    kinds = {reply.answer.failure.kind for reply in failed if reply.answer.failure}
    if kinds == {"timeout"} and (rejected := drafts.check(clues.case.evidence)):
        return Cause.DRAFT_MODEL, f"{rejected[0].message}, and requests take longer than their deadline"
    if kinds and kinds <= {"timeout", "connection"}:
        return Cause.SCHEDULER, "requests the engine answered before the transition do not return any more"
    if kinds == {"http"} and len(failed) < len(clues.case.evidence.after_replies):
        return Cause.DECODE_PATH, (
            "some requests fail with an error, as NaN logits make them, and all others are answered as before"
        )
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
