"""What an answer shows that is not the baseline's: other tokens, repetition, or another ending.

Which answers these are, the measured noise decides (``suspects`` in :mod:`harness.check.evidence`); what is
told of each is seen beside its own baseline.  Small models repeat by nature, so repetition is held against no
constant: it is measured on equally long windows and compared two-sided, because loops raise the measures and
garbage lowers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from harness.check.answer_pair import NGRAM, AnswerPair, Loop, coverage, find_loop, repeated_ngrams
from harness.check.evidence import Evidence
from harness.check.lateness import is_hang
from harness.check.result import Finding, Strength
from harness.check.wording import counted, finding_about
from harness.history.event_base import UNTIMELY

SMALLEST_WINDOW = 12
"""Tokens below which an answer is too short to tell a loop from chance."""

NOTABLE = 0.25
"""A shift of either measure of repetition, both between 0 and 1, from which it is worth a sentence."""


def beyond_noise(evidence: Evidence) -> Iterator[Finding]:
    """Tell of every pass, and every single answer, that the measured noise does not explain."""
    calibration = evidence.calibration
    if calibration is not None and not calibration.quiet:
        yield from calibration.findings()


def divergence(evidence: Evidence) -> Iterator[Finding]:
    """Tell of every suspect whose tokens or log-probabilities differ from the baseline's."""
    for pair in evidence.suspects:
        if not (pair.same_tokens and pair.same_logprobs):
            detail, facts = _logprobs(pair) if pair.same_tokens else _tokens(pair)
            facts = {**facts, "cached_tokens": pair.reply.answer.cached_tokens}
            yield finding_about(
                pair.reply, detail, checker="divergence", strength=evidence.strength, evidence=facts
            )


def repetition(evidence: Evidence) -> Iterator[Finding]:
    """Tell of every suspect that repeats itself notably more, or less, than its baseline."""
    for pair in evidence.suspects:
        if not pair.same_tokens and (told := _repetition(pair)):
            detail, facts = told
            yield finding_about(
                pair.reply, detail, checker="repetition", strength=evidence.strength, evidence=facts
            )


def termination(evidence: Evidence) -> Iterator[Finding]:
    """Tell of answers that end too early, too late, for another reason, or never.

    That is proof where the tokens are the same, and where the engine stood still over a prompt that the
    baseline answered; one that is only late is slow.
    """
    for pair in evidence.suspects:
        if detail := _other_ending(pair):
            same = pair.same_tokens and not pair.same_ending
            before, after = pair.reference.answer, pair.reply.answer
            yield finding_about(
                pair.reply,
                detail,
                checker="termination",
                strength=Strength.PROOF if same else evidence.strength,
                evidence={
                    "baseline_tokens": len(before.token_ids),
                    "tokens": len(after.token_ids),
                    "baseline_finish_reason": before.finish_reason,
                    "finish_reason": after.finish_reason,
                },
            )
    for reply in evidence.failed:
        failure = reply.answer.failure
        if failure is not None and failure.kind in UNTIMELY:
            hangs = is_hang(evidence, failure, pass_number=reply.start.number)
            answered = reply.answer.prompt in evidence.baseline
            waited = f"no answer within {reply.answer.seconds:.0f} s"
            yield finding_about(
                reply,
                f"{waited}: {failure.message}" if failure.kind == "hang" else waited,
                checker="termination",
                strength=Strength.PROOF if hangs and answered else Strength.HINT,
                evidence={"seconds": reply.answer.seconds},
            )


def _tokens(pair: AnswerPair) -> tuple[str, Mapping[str, JsonValue]]:
    position, gap = pair.first_difference, pair.gap
    sureness = "" if gap is None else f", where the baseline was ahead by {gap:.3g} nat"
    detail = f"differs from token {position} on{sureness}; {pair.agreement:.0%} of the tokens agree"
    return detail, {
        "first_difference": position,
        "agreement": round(pair.agreement, 4),
        "baseline_gap": gap,
        "logprob_shift_before": pair.logprob_shift,
    }


def _logprobs(pair: AnswerPair) -> tuple[str, Mapping[str, JsonValue]]:
    shift, position = pair.logprob_shift, pair.first_logprob_difference
    if position is None:
        return "same tokens, but the log-probabilities have a different shape", {}
    size = f"by up to {shift:.3g} nat" if shift else "although not of the tokens themselves"
    detail = f"same tokens, but different log-probabilities from token {position} on, {size}"
    return detail, {"first_logprob_difference": position, "logprob_shift": shift}


def _repetition(pair: AnswerPair) -> tuple[str, Mapping[str, JsonValue]] | None:
    before, after = pair.reference.answer.token_ids, pair.reply.answer.token_ids
    window = min(len(before), len(after))
    before, after = before[:window], after[:window]
    if window < SMALLEST_WINDOW:
        return None
    loop_before, loop_after = find_loop(before), find_loop(after)
    ngrams_before, ngrams_after = repeated_ngrams(before), repeated_ngrams(after)
    covered_before, covered_after = coverage(loop_before, window), coverage(loop_after, window)
    if max(abs(ngrams_after - ngrams_before), abs(covered_after - covered_before)) < NOTABLE:
        return None
    detail = _loops(loop_before, loop_after, window) or _ngrams(ngrams_before, ngrams_after, window)
    return detail, {
        "window": window,
        "period": loop_after.period if loop_after else None,
        "coverage": round(covered_after, 4),
        "baseline_coverage": round(covered_before, 4),
        "repeated_ngrams": round(ngrams_after, 4),
        "baseline_repeated_ngrams": round(ngrams_before, 4),
    }


def _loops(before: Loop | None, after: Loop | None, window: int) -> str:
    """Over how much more than its baseline an answer loops; empty where it does not."""
    looped = before.length if before else 0
    if after is None or after.length <= looped:
        return ""
    pattern = "one token" if after.period == 1 else f"{after.period} tokens"
    return f"repeats {pattern} over {after.length} of {window} tokens; the baseline loops over {looped}"


def _ngrams(before: float, after: float, window: int) -> str:
    return (
        f"repeats itself {'more' if after > before else 'less'} than its baseline: {after:.0%} of the "
        f"{NGRAM}-grams in the first {window} tokens are repeats, {before:.0%} in the baseline"
    )


def _other_ending(pair: AnswerPair) -> str:
    """How an answer ends otherwise than its baseline; empty where it does not."""
    before, after = pair.reference.answer, pair.reply.answer
    had, has = len(before.token_ids), len(after.token_ids)
    if before.text.strip() and not after.text.strip():
        return f"empty answer ({counted(has, 'token')}); the baseline had {counted(had, 'token')}"
    if before.finish_reason == "stop" and after.finish_reason == "length":
        return f"runs to the limit of {has} tokens; the baseline stopped after {had}"
    if before.finish_reason == "length" and after.finish_reason == "stop":
        return f"stops after {counted(has, 'token')}; the baseline ran to the limit of {had}"
    if before.finish_reason != after.finish_reason:
        return f"finish reason {after.finish_reason!r} instead of {before.finish_reason!r}"
    return f"ends after {counted(has, 'token')} instead of {had}" if had != has else ""
