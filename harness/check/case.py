"""Which judged answers are damaged, as far as the measured noise allows to say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from harness.check import divergence, protocol, repetition, termination
from harness.check.calibration import Calibration
from harness.check.comparison import Comparison, Reply
from harness.check.evidence import Evidence
from harness.check.limits import RESOLUTION
from harness.check.result import Finding, Strength


class Case:
    """The answers of one recording and what is held against them.

    Where the noise was measured, damage is what it does not explain
    (:mod:`harness.check.calibration`).  Where it was not, nothing can be said about a difference.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def calibration(self) -> Calibration | None:
        """The answers held against the noise; None where it was not measured."""
        return Calibration(self.evidence) if self.evidence.null else None

    @cached_property
    def damaged(self) -> tuple[Comparison, ...]:
        """The judged answers that bear damage."""
        accused = {_place(reply) for reply in self.calibration.damaged} if self.calibration else set()
        return tuple(
            each
            for each in self.evidence.after
            # The same tokens cannot end in two ways, whatever the noise is.
            if _place(each.reply) in accused or (each.same_tokens and not each.same_ending)
        )

    @property
    def shows_in_single_answers(self) -> bool:
        """Whether a damaged answer can be told from a sound one by itself."""
        return self.calibration is None or self.calibration.quiet or bool(self.calibration.gross)

    @property
    def resolution(self) -> float:
        """The largest shift that rounding alone explains, nat."""
        return self.calibration.resolution if self.calibration else RESOLUTION

    def findings(self) -> tuple[Finding, ...]:
        """Everything the checkers of answers find."""
        noisy = self.calibration is not None and not self.calibration.quiet
        suspects = self.evidence.after if self.calibration is None else self.damaged
        strength = Strength.PROOF if self.calibration is not None and not noisy else Strength.HINT
        return (
            *protocol.check(self.evidence),
            *(self.calibration.findings() if noisy and self.calibration else ()),
            *divergence.check(suspects, strength=strength),
            *repetition.check(suspects, strength=strength),
            *termination.check(suspects, strength=strength),
            *termination.never_ending(self.evidence),
        )

    def healed(self, comparisons: Sequence[Comparison]) -> int:
        """How many of a control's answers are the baseline's again."""
        if self.calibration is None:
            return sum(comparison.identical for comparison in comparisons)
        return self.calibration.healed([each.reply for each in comparisons])


def _place(reply: Reply) -> tuple[int, str]:
    return reply.start.number, reply.answer.prompt
