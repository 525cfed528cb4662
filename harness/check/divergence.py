"""Where an answer parts from its baseline, and how sure the baseline was there."""

from __future__ import annotations

from collections.abc import Iterable

from harness.check.comparison import Comparison
from harness.check.result import Finding, Strength
from harness.check.wording import occasion


def check(suspects: Iterable[Comparison], *, strength: Strength) -> tuple[Finding, ...]:
    """Tell of every suspect whose tokens or log-probabilities differ from the baseline's."""
    return tuple(
        _finding(comparison, strength)
        for comparison in suspects
        if not (comparison.same_tokens and comparison.same_logprobs)
    )


def _finding(comparison: Comparison, strength: Strength) -> Finding:
    reply = comparison.reply
    detail, evidence = _tokens(comparison) if not comparison.same_tokens else _logprobs(comparison)
    return Finding(
        checker="divergence",
        message=f"{comparison.prompt.id}, {occasion(reply.start)}: {detail}",
        strength=strength,
        prompt=comparison.prompt.id,
        pass_number=reply.start.number,
        cycle=reply.start.cycle,
        evidence={**evidence, "cached_tokens": reply.answer.cached_tokens},
    )


def _tokens(comparison: Comparison) -> tuple[str, dict[str, float | int | None]]:
    position = comparison.first_difference
    gap = comparison.gap
    sureness = "" if gap is None else f", where the baseline was sure by {gap:.3g} nat"
    detail = f"differs from token {position} on{sureness}; {comparison.agreement:.0%} of the tokens agree"
    return detail, {
        "first_difference": position,
        "agreement": round(comparison.agreement, 4),
        "baseline_gap": gap,
        "logprob_shift_before": comparison.logprob_shift,
    }


def _logprobs(comparison: Comparison) -> tuple[str, dict[str, float | int | None]]:
    shift, position = comparison.logprob_shift, comparison.first_logprob_difference
    if position is None:
        return "the log-probabilities are of another shape, the tokens the same", {}
    size = f"by up to {shift:.3g} nat" if shift else "though not of the tokens themselves"
    detail = f"same tokens, but other log-probabilities from token {position} on, {size}"
    return detail, {"first_logprob_difference": position, "logprob_shift": shift}
