"""What others sent to a server while a cell was tested on it, and what that leaves in doubt.

Requests of others take time and memory and change how requests are batched.  So they are no ground for what
is said of speed and memory, nor for what is told from noise.  Answers that are the same remain the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.check.result import Finding, Strength
from harness.check.wording import counted
from harness.history.recording import Recording

_DISTURBED = frozenset({"memory", "speed", "noise"})
"""Checkers whose findings others may have caused."""

_OF_THE_MACHINE = frozenset({"memory", "speed"})
"""Checkers of what a busy moment of the machine changes; over months one is certain."""


@dataclass(frozen=True, kw_only=True)
class Others:
    """How many requests of others came to an end meanwhile, and how many of these were ended early.

    Both are at least so many: a request of ours that the server did not count hides one of theirs.
    """

    ended: int
    aborted: int

    @property
    def sentence(self) -> str:
        """What there is to say of them."""
        aborted = f", {self.aborted} of them aborted" if self.aborted else ""
        return f"others sent {counted(self.ended, 'request')} meanwhile{aborted}"


def others(recording: Recording) -> Others | None:
    """What others sent; None where they sent nothing that is known."""
    told = recording.counted
    if told is None or told.ended is None or told.ended + told.under_way <= told.own:
        return None
    aborted = (told.aborted or 0) - _own_aborted(recording)
    return Others(ended=told.ended + told.under_way - told.own, aborted=max(0, aborted))


def _own_aborted(recording: Recording) -> int:
    answers = [answer for each in recording.passes for answer in each.answers.values()]
    own = sum(answer.finish_reason == "abort" or answer.failure is not None for answer in answers)
    ends = [request.end for request in recording.requests]
    return own + sum(end is None or "abort" in end.finish_reasons or not end.finish_reasons for end in ends)


def without_ground(findings: tuple[Finding, ...], recording: Recording) -> tuple[Finding, ...]:
    """The findings, those that others may have caused as hints."""
    disturbs_finding = disturbs
    if is_watched(recording):
        disturbs_finding = disturbs_beside if may_be_others(recording) else _is_of_the_machine
    elif others(recording) is None:
        return findings
    return tuple(
        finding.model_copy(update={"strength": Strength.HINT}) if disturbs_finding(finding) else finding
        for finding in findings
    )


def is_watched(recording: Recording) -> bool:
    """Whether somebody else drives the engine, for anybody and at any time, so that it need not be idle."""
    return any(step.seen for step in recording.steps)


def may_be_others(recording: Recording) -> bool:
    """Whether others sent anything to a server; where it does not count that, they may have."""
    counted_nothing = recording.counted is not None and recording.counted.ended is None
    return counted_nothing or others(recording) is not None


def disturbs_beside(finding: Finding) -> bool:
    """Whether requests of others may have caused ``finding`` in an engine that is watched.

    They take time, memory and cached blocks.  They also move the answers of a whole pass a little, by the
    batches that these fall into; a single answer that is far off, they do not explain.
    """
    return _is_of_the_machine(finding) or finding.checker == "cache" or is_common(finding)


def is_common(finding: Finding) -> bool:
    """Whether ``finding`` is that the answers of a pass lie off together."""
    return finding.prompt is None and "adjusted_p_value" in finding.evidence


def _is_of_the_machine(finding: Finding) -> bool:
    """Whether ``finding`` is about time or memory: over months a busy moment of the machine is certain."""
    return finding.checker in _OF_THE_MACHINE


def obstacle(recording: Recording, *, disturbed: bool) -> str | None:
    """Why there is no verdict, where one would rest on what others may have ``disturbed``."""
    seen = others(recording)
    if seen is None or not disturbed:
        return None
    return f"{seen.sentence}, which may be what differs: run it again while the server is idle"


def disturbs(finding: Finding) -> bool:
    """Whether others may have caused ``finding``."""
    return finding.checker in _DISTURBED
