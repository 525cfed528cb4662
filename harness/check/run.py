"""From the judgements of its cells to the judgement of a run."""

from __future__ import annotations

from collections.abc import Sequence

from harness.check.result import CellResult, RunResult, Verdict
from harness.errors import ExitCode
from harness.history.time_spent import TimeSpent

NO_TIME = TimeSpent()
WORST_FIRST = (Verdict.CORRUPT, Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CLEAN)


def judge_run(results: Sequence[CellResult], *, run: str, outside_cells: TimeSpent = NO_TIME) -> RunResult:
    """Gather the judgements of the cells of ``run``: its verdict is the worst of theirs.

    ``outside_cells`` is what the run's time was spent on besides its cells.
    """
    verdicts = {result.verdict for result in results}
    return RunResult(
        run=run,
        verdict=next((verdict for verdict in WORST_FIRST if verdict in verdicts), None),
        exit_code=_exit_code(results),
        cells=tuple(results),
        milliseconds=sum((result.milliseconds for result in results), start=outside_cells),
    )


def _exit_code(results: Sequence[CellResult]) -> ExitCode:
    verdicts = {result.verdict for result in results}
    if verdicts & {Verdict.CORRUPT, Verdict.DEGRADED}:
        return ExitCode.CORRUPT_OR_DEGRADED
    if any(result.error is not None for result in results):
        return ExitCode.INFRASTRUCTURE
    # A run without any cell has shown nothing either.
    if verdicts == {Verdict.CLEAN}:
        return ExitCode.CLEAN
    return ExitCode.INCONCLUSIVE
