"""How answers end: too early, too late, for another reason, or never."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.check.comparison import Comparison, Reply
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import counted, occasion


def never_ending(evidence: Evidence) -> Iterator[Finding]:
    """Tell of every judged request without an answer in time: proof wherever the baseline answered it."""
    for reply in evidence.failed:
        if reply.answer.failure is None or reply.answer.failure.kind != "timeout":
            continue
        answered = reply.answer.prompt in evidence.baseline
        yield _finding(
            reply,
            f"no answer within {reply.answer.seconds:.0f} s",
            strength=Strength.PROOF if answered else Strength.HINT,
            evidence={"seconds": reply.answer.seconds},
        )


def check(suspects: Iterable[Comparison], *, strength: Strength) -> Iterator[Finding]:
    """Tell of every suspect that ends otherwise than its baseline: proof where the tokens are the same."""
    for comparison in suspects:
        detail = _difference(comparison)
        if detail is not None:
            proven = comparison.same_tokens and not comparison.same_ending
            before, after = comparison.reference.answer, comparison.reply.answer
            yield _finding(
                comparison.reply,
                detail,
                strength=Strength.PROOF if proven else strength,
                evidence={
                    "baseline_tokens": len(before.token_ids),
                    "tokens": len(after.token_ids),
                    "baseline_finish_reason": before.finish_reason,
                    "finish_reason": after.finish_reason,
                },
            )


def _difference(comparison: Comparison) -> str | None:
    before, after = comparison.reference.answer, comparison.reply.answer
    had, has = len(before.token_ids), len(after.token_ids)
    if before.text.strip() and not after.text.strip():
        return f"empty answer ({counted(has, 'token')}); the baseline had {counted(had, 'token')}"
    if before.finish_reason == "stop" and after.finish_reason == "length":
        return f"runs to the limit of {has} tokens; the baseline stopped after {had}"
    if before.finish_reason == "length" and after.finish_reason == "stop":
        return f"stops after {counted(has, 'token')}; the baseline ran to the limit of {had}"
    if before.finish_reason != after.finish_reason:
        return f"finish reason {after.finish_reason!r} instead of {before.finish_reason!r}"
    if had != has:
        return f"ends after {counted(has, 'token')} instead of {had}"
    return None


def _finding(
    reply: Reply, detail: str, *, strength: Strength, evidence: dict[str, int | float | str | None]
) -> Finding:
    return Finding(
        checker="termination",
        message=f"{reply.answer.prompt}, {occasion(reply.start)}: {detail}",
        strength=strength,
        prompt=reply.answer.prompt,
        pass_number=reply.start.number,
        cycle=reply.start.cycle,
        evidence=evidence,
    )
