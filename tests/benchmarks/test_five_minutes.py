"""The way from an empty folder to a verdict, as it is timed."""

from __future__ import annotations

from tests.benchmarks.five_minutes import Timed, steps, table


def test_it_is_told_when_there_was_a_verdict_first() -> None:
    """Everything before it counts, what comes after does not."""
    typed = steps("http://127.0.0.1:8000", wheel="sleepwake.whl")
    timed = [Timed(step=step, code=0, seconds=10.0) for step in typed]
    shown = table(timed)
    assert shown.endswith("To the first verdict: 50 s.")
    assert "| look | `sleepwake doctor` | 0 | 10 | 30 |" in shown
    assert table(timed[:3]).endswith("To the first verdict: no verdict.")
