"""Whether the damage stayed until something healed it, or comes and goes by itself.

Damaged prompts are asked again as they were.  Those that are right then, though nothing was done about them,
show that the damage comes and goes: a control that finds them right has healed nothing.  Only answers that
are damage on their own tell, and only those asked under the very conditions under which they were damaged.
A fresh salt asks what was asked cold as it was, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from harness.check.answer_pair import Reply
from harness.check.evidence import Evidence
from harness.check.noise.exact_tests import at_least
from harness.check.wording import counted
from harness.history.passes import CacheCondition, Control, Method

BY_CHANCE = 0.01
"""How likely chance may be to bring about what a cause is told by."""

RECURRING = 0.25
"""Part of damaged answers that must be damaged again: below, a cause would be guessed from single ones.

Where fewer answers are damaged at all, those that are have to be damaged again more often than any other.
"""

_CHANGING = frozenset({Control.RESET_PREFIX_CACHE, Control.RESET_ENCODER_CACHE, Control.RELOAD_WEIGHTS})
_AS_THEY_WERE = frozenset({Control.ASKED_AGAIN, Control.FRESH_SALT})

_Place: TypeAlias = tuple[str, str | None, Method, CacheCondition, int]


@dataclass(frozen=True, kw_only=True)
class _AskedAgain:
    """What came of one pass that asked damaged prompts again."""

    number: int
    control: Control | None
    still: int
    right: int

    @property
    def share(self) -> float:
        """How many of those that tell are damaged again."""
        return self.still / (self.still + self.right)


@dataclass(frozen=True)
class Lasting:
    """What became of the damage of ``steps`` while nothing was done about it."""

    evidence: Evidence
    steps: frozenset[str]

    @cached_property
    def _asked(self) -> tuple[_AskedAgain, ...]:
        """Every pass that asked again as before and tells, in order."""
        passes: dict[int, list[Reply]] = {}
        for control in _AS_THEY_WERE:
            for reply in self.evidence.control_replies(control):
                if reply.start.step in self.steps and _place(reply) in self._damaged:
                    passes.setdefault(reply.start.number, []).append(reply)
        found = (self._outcome(replies) for _, replies in sorted(passes.items()))
        return tuple(each for each in found if each.still or each.right)

    @cached_property
    def _damaged(self) -> frozenset[_Place]:
        """Where answers were that are damage each on its own."""
        calibration = self.evidence.calibration
        gross = (row.track.reply for row in calibration.gross) if calibration else ()
        return frozenset(_place(reply) for reply in gross if reply.start.step in self.steps)

    def _outcome(self, replies: Sequence[Reply]) -> _AskedAgain:
        start = replies[0].start
        verdicts = [self._is_right(reply) for reply in replies]
        return _AskedAgain(
            number=start.number,
            control=start.control,
            still=verdicts.count(False),
            right=verdicts.count(True),
        )

    def _is_right(self, reply: Reply) -> bool | None:
        """Whether it is the baseline's again; None where noise leaves that open, or there is no answer."""
        calibration = self.evidence.calibration
        if reply.answer.failure is not None or calibration is None:
            return None
        if not calibration.healed([reply]):
            return False
        row = self.evidence.null_answers.row(reply)
        known = row.pool.baseline or row.pool.null
        return True if known and (calibration.quiet or not row.exceeds) else None

    @cached_property
    def _undisturbed(self) -> tuple[_AskedAgain, ...]:
        """Those before the first control that changed the engine."""
        changed = (
            reply.start.number
            for control in _CHANGING
            for reply in self.evidence.control_replies(control)
            if reply.start.step in self.steps
        )
        first = min(changed, default=float("inf"))
        return tuple(each for each in self._asked if each.number < first)

    @property
    def comes_and_goes(self) -> bool:
        """Whether a damaged prompt was right when asked again as it was, with nothing done in between."""
        return any(each.right for each in self._undisturbed)

    @property
    def recurs(self) -> bool:
        """Whether enough of the damaged prompts are damaged again for their cause to be told."""
        still = sum(each.still for each in self._undisturbed)
        asked = still + sum(each.right for each in self._undisturbed)
        by_chance = at_least(still, of=asked, rate=self._rate)
        return still >= RECURRING * asked and (self._rate >= RECURRING or by_chance <= BY_CHANCE)

    @property
    def _rate(self) -> float:
        """How many of the judged answers are damaged."""
        return len(self.evidence.damaged) / len(self.evidence.after)

    def was_there_before(self, control: Control, *, asked: int) -> bool:
        """Whether damage just before ``control`` was such that chance alone would not make all right.

        True as well where nobody asked.

        Args:
            control: It found all of its answers right.
            asked: How many.
        """
        numbers = [
            reply.start.number
            for reply in self.evidence.control_replies(control)
            if reply.start.step in self.steps
        ]
        if not numbers:
            return True
        share = min(self._shares_before(min(numbers)), default=1.0)
        return (1.0 - share) ** asked <= BY_CHANCE

    def _shares_before(self, number: int) -> Iterator[float]:
        """Of the latest time they were asked again as they were, in all the company they had then."""
        earlier = [each for each in self._asked if each.number < number]
        for each in reversed(earlier):
            if each.control is not earlier[-1].control or each.number < earlier[-1].number - 1:
                return
            yield each.share

    @property
    def sentence(self) -> str:
        """How often the damage comes, and that it goes by itself."""
        damaged, judged = len(self.evidence.damaged), len(self.evidence.after)
        still = sum(each.still for each in self._undisturbed)
        right = sum(each.right for each in self._undisturbed)
        return (
            f"{damaged} of {counted(judged, 'answer')} ({self._rate:.0%}) are damaged, and {right} of "
            f"{still + right} were right when asked again as they had been, with nothing done in between"
        )


def _place(reply: Reply) -> _Place:
    start = reply.start
    return reply.answer.prompt, start.reference, start.method, start.cache, start.concurrency
