"""What a clean verdict does not exclude."""

from __future__ import annotations

from harness.check.result import Bound
from harness.check.wording import counted

CONFIDENCE = 0.95


def rule_out(
    *, prompts: int, passes: int, alone: float | None = None, together: float | None = None
) -> Bound:
    """Upper limit of the affected-prompt rate when none of ``prompts`` was affected.

    The unit is the prompt: its answers in several passes are no independent samples of
    what users send.  The limit is Clopper and Pearson's (1934), exact and closed for zero
    events: ``1 - (1 - confidence) ** (1 / prompts)``.

    Where there is noise, an answer counts as affected if it lies off by ``alone`` nat, and the
    answers of a pass if they lie off by ``together`` more than null answers do: the smallest
    effects the run could have seen.
    """
    limit = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / prompts)
    compared = f"{counted(prompts, 'prompt')} compared in {counted(passes, 'pass', 'passes')}"
    hidden = "none differed" if alone is None else f"none {_smallest_effect(alone, together)}"
    return Bound(
        affected_prompts_below=limit,
        confidence=CONFIDENCE,
        comparisons=prompts,
        statement=f"affected prompts < {limit:.1%} at {CONFIDENCE:.0%} ({compared}, {hidden})",
        smallest_single_shift=alone,
        smallest_common_shift=together,
    )


def _smallest_effect(alone: float, together: float | None) -> str:
    one = f"off by {alone:.2g} nat"
    return one if together is None else f"{one}, nor all of a pass together by {together:.2g}"
