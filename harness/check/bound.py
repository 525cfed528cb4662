"""What a clean verdict does not exclude."""

from __future__ import annotations

from harness.check.result import Bound
from harness.check.wording import counted

CONFIDENCE = 0.95


def rule_out(*, prompts: int, passes: int) -> Bound:
    """Upper limit of the affected-prompt rate when none of ``prompts`` was affected.

    The unit is the prompt: its answers in several passes are no independent samples of
    what users send.  The limit is Clopper and Pearson's (1934), exact and closed for zero
    events: ``1 - (1 - confidence) ** (1 / prompts)``.
    """
    limit = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / prompts)
    return Bound(
        affected_prompts_below=limit,
        confidence=CONFIDENCE,
        comparisons=prompts,
        statement=f"affected prompts < {limit:.1%} at {CONFIDENCE:.0%} "
        f"({counted(prompts, 'prompt')} compared in {counted(passes, 'pass', 'passes')}, none differed)",
    )
