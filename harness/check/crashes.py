"""What becomes of a cell when a part of the judgement itself crashes.

A checker is a program of ours and may be wrong.  One that raises costs what it would have found, not what the
others found.  Its traceback becomes a part of the result, and the cell is inconclusive unless something was
proven that it could not have made worse.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from harness.check.result import CellResult, Crash, Grounds, Lack, Verdict
from harness.check.wording import counted

_Result = TypeVar("_Result")


class Attempts:
    """Calls what may crash, and keeps what did."""

    def __init__(self) -> None:
        self._crashes: dict[str, Crash] = {}

    @property
    def crashes(self) -> tuple[Crash, ...]:
        """What crashed so far."""
        return tuple(self._crashes.values())

    def attempt(self, part: str, call: Callable[[], _Result], *, otherwise: _Result) -> _Result:
        """Return what ``call`` returns, or ``otherwise`` where it raises."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - nothing is hidden: it is told, and keeps the cell from clean
            trace = traceback.format_exc()
            self._crashes[part] = Crash(part=part, error=f"{type(error).__name__}: {error}", traceback=trace)
            return otherwise

    def told_in(self, judged: CellResult) -> CellResult:
        """Return ``judged`` with what crashed on the way to it."""
        sentence = self.sentence()
        if not sentence:
            return judged
        grounds = Grounds(what=sentence)
        if judged.reason:
            told = judged.grounds or Grounds(what=judged.reason)
            grounds = told.model_copy(update={"further": (*told.further, sentence)})
        if judged.verdict is Verdict.INCONCLUSIVE:
            grounds = grounds.model_copy(update={"lacks": (*grounds.lacks, Lack.CRASH)})
        reason = "; ".join(filter(None, (judged.reason, sentence)))
        return judged.model_copy(update={"reason": reason, "grounds": grounds, "crashes": self.crashes})

    def sentence(self) -> str:
        """What crashed, for an operator; empty where nothing did."""
        if not self._crashes:
            return ""
        first, *others = self._crashes.values()
        more = f" (and {counted(len(others), 'other part')} of the judgement)" if others else ""
        return (
            f"{first.part} crashed{more}, {first.error}: this is a defect of sleepwake, not of the engine; "
            "the traceback is in verdict.json"
        )
