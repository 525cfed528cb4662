"""From a recording to a verdict: pure functions, no network, no clock, no disk."""

from harness.check.run import judge_run
from harness.check.verdict import judge

__all__ = ["judge", "judge_run"]
