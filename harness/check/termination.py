"""How answers end: too early, too late, for another reason, or never."""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.comparison import Comparison, Reply
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import counted, occasion


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find judged answers that end otherwise than the baseline's, or do not end before their deadline.

    A timeout is proof wherever the baseline answered that prompt; another ending only where
    the null transition changed nothing.
    """
    return (*_never_ending(evidence), *_endings(evidence))


def _never_ending(evidence: Evidence) -> Iterator[Finding]:
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


def _endings(evidence: Evidence) -> Iterator[Finding]:
    strength = Strength.PROOF if evidence.exact else Strength.HINT
    for comparison in evidence.after:
        detail = _difference(comparison)
        if detail is not None:
            before, after = comparison.reference.answer, comparison.reply.answer
            yield _finding(
                comparison.reply,
                detail,
                strength=strength,
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
