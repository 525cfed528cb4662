"""From a recording to a verdict: pure functions, no network, no clock, no disk."""

from harness.check.verdict import judge, judge_run

__all__ = ["judge", "judge_run"]
