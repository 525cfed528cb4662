"""Whether the engine is slower once it has slept, or gets slower from cycle to cycle.

Time is the least reproducible of all measurements, other work on the machine adds to it.  So the fastest
judged pass is held against the slowest one before, and nothing accuses that was timed while the harness was
stopped or others kept the machine busy.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.checkers.speed.each_cycle import slower_each_cycle
from harness.check.checkers.speed.few_cycles import slower_each_of_few_cycles
from harness.check.checkers.speed.first_answer import slower_first_answers
from harness.check.checkers.speed.first_token import slower_first_tokens
from harness.check.checkers.speed.line import told
from harness.check.checkers.speed.once_awake import slower_once_awake
from harness.check.checkers.speed.slowness import Slowness
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength

__all__ = ["check", "obstacles", "told"]


def check(evidence: Evidence) -> Iterator[Finding]:
    """Find engines that are slower once awake than before they slept, and what slows down in every cycle.

    What the machine explains as well is a hint.
    """
    for each in _slow(evidence):
        yield Finding(
            checker="speed",
            message=each.message,
            strength=Strength.HINT if each.doubt(evidence.lost_times) else Strength.PROOF,
            cycle=each.cycle,
            evidence=each.evidence,
        )


def obstacles(evidence: Evidence) -> Iterator[str]:
    """Say where an engine seems slower, and what explains it as well."""
    for each in _slow(evidence):
        if doubt := each.doubt(evidence.lost_times):
            yield f"{each.message}, but {doubt}"


def _slow(evidence: Evidence) -> Iterator[Slowness]:
    yield from slower_once_awake(evidence)
    yield from slower_first_tokens(evidence)
    yield from slower_first_answers(evidence)
    yield from slower_each_of_few_cycles(evidence)
    yield from slower_each_cycle(evidence)
