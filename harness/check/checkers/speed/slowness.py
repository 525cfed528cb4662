"""What takes longer than it did, the times that say so, and what else may explain it than the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from harness.check.timing.lost_times import LostTimes
from harness.check.timing.machine_load import BUSY, HELD_BACK_MORE, NOT_SEEN, Windows


@dataclass(frozen=True, kw_only=True)
class Slowness:
    """Something that takes longer than it did."""

    message: str
    """In a sentence."""
    cycle: int | None
    evidence: Mapping[str, JsonValue]
    judged: Windows = NOT_SEEN
    """How busy the machine was while what is slow was timed,"""
    before: Windows = NOT_SEEN
    """and while what it is held against was."""
    shows_without_lost_times: bool = True
    engine_agrees: bool = True
    """Whether the engine itself counted more time as well, or does not count it."""

    def doubt(self, lost: LostTimes) -> str | None:
        """What explains it as well, with what would settle it; None where nothing does."""
        if not self.shows_without_lost_times:
            return f"{lost.stopped} meanwhile: run it again"
        if not self.engine_agrees:
            return "the engine itself counts hardly more time: look at what lies between it and sleepwake"
        if max(self.judged.others or 0.0, self.before.others or 0.0) > BUSY:
            return (
                f"{_used(self.judged)} while that was timed, and {_share(self.before)} while what it is held "
                f"against was ({BUSY:.0%} leave times alone): run it again while the machine is idle"
            )
        if self.judged.held_back > self.before.held_back + HELD_BACK_MORE:
            return (
                f"its control group was held back for {self.judged.held_back:.0%} of the time then, and for "
                f"{self.before.held_back:.0%} before: give it more processor time"
            )
        return None


def _used(windows: Windows) -> str:
    return f"other processes used {_share(windows)} of the machine's processors"


def _share(windows: Windows) -> str:
    return "an unknown part" if windows.others is None else f"{windows.others:.0%}"
