"""From cells to a run."""

from __future__ import annotations

import pytest

from harness.check import judge, judge_run
from harness.check.result import CellResult, RunResult, Verdict
from harness.errors import ExitCode
from tests.check.stories import Story, clean_story, garbage

CLEAN = clean_story().judged()
CORRUPT = Story().baseline().null().cycle(1, warm={"p0": garbage(), "p1": garbage()}).judged()
DEGRADED = Story().baseline().null().sleep(freed=0).wake().probe().judged()
DOUBTFUL = Story().baseline().null().judged()
FAILED = judge(clean_story().fail().recording())
REFUSED = judge(Story().fail("FlagsRefusedError").recording())


@pytest.mark.parametrize(
    ("cells", "verdict", "exit_code"),
    [
        ([CLEAN], Verdict.CLEAN, ExitCode.CLEAN),
        ([CLEAN, CLEAN], Verdict.CLEAN, ExitCode.CLEAN),
        ([CLEAN, DOUBTFUL], Verdict.INCONCLUSIVE, ExitCode.INCONCLUSIVE),
        ([DOUBTFUL, DEGRADED, CLEAN], Verdict.DEGRADED, ExitCode.CORRUPT_OR_DEGRADED),
        ([DEGRADED, CORRUPT], Verdict.CORRUPT, ExitCode.CORRUPT_OR_DEGRADED),
        ([FAILED], None, ExitCode.INFRASTRUCTURE),
        ([CLEAN, FAILED, DOUBTFUL], Verdict.INCONCLUSIVE, ExitCode.INFRASTRUCTURE),
        ([CLEAN, FAILED], None, ExitCode.INFRASTRUCTURE),
        ([CLEAN, REFUSED], None, ExitCode.USAGE),
        ([CLEAN, REFUSED, FAILED], None, ExitCode.INFRASTRUCTURE),
        ([REFUSED, CORRUPT], Verdict.CORRUPT, ExitCode.CORRUPT_OR_DEGRADED),
        ([FAILED, CORRUPT], Verdict.CORRUPT, ExitCode.CORRUPT_OR_DEGRADED),
        ([], None, ExitCode.INCONCLUSIVE),
    ],
)
def test_the_worst_cell_decides(
    cells: list[CellResult], verdict: Verdict | None, exit_code: ExitCode
) -> None:
    """A proven defect outweighs a failed machine, which outweighs doubt, which outweighs health.

    Clean is never said of a run in which a cell has no verdict; flags that vLLM refuses are the user's.
    """
    result = judge_run(cells, run="run-1")
    assert (result.run, result.verdict, result.exit_code) == ("run-1", verdict, exit_code)
    assert result.cells == tuple(cells)


@pytest.mark.parametrize("cell", [CLEAN, CORRUPT, DEGRADED, DOUBTFUL, FAILED])
def test_a_result_survives_json(cell: CellResult) -> None:
    """``verdict.json`` read back is the result that was written."""
    result = judge_run([cell], run="run-1")
    assert RunResult.model_validate_json(result.model_dump_json()) == result
