"""Scenarios on a real engine that a program of its own holds, as the inprocess runtime has it."""

from __future__ import annotations

from pathlib import Path

import pytest

import sleepwake

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("scenario", "fault", "held", "verdict", "cause"),
    [
        ("first-look", None, "LLM", sleepwake.Verdict.CLEAN, None),
        (
            "first-look",
            "keep-prefix-cache",
            "LLM",
            sleepwake.Verdict.CORRUPT,
            sleepwake.Cause.STALE_PREFIX_CACHE,
        ),
        ("pause-resume", None, "AsyncLLM", sleepwake.Verdict.CLEAN, None),
    ],
)
def test_scenarios_run_on_an_engine_that_is_held(
    tmp_path: Path,
    scenario: str,
    *,
    fault: str | None,
    held: str,
    verdict: sleepwake.Verdict,
    cause: sleepwake.Cause | None,
) -> None:
    """Whole, with the verdict and the cause that a server gets for the same."""
    judged = sleepwake.run(scenario, runtime="inprocess", fault=fault, out=tmp_path)
    assert [(each.verdict, each.cause) for each in judged.result.cells] == [(verdict, cause)]
    recorded = next(judged.directory.glob("cells/*/history.jsonl")).read_text()
    assert f"--hold {held}" in recorded
