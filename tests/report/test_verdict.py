"""``verdict.json``."""

from __future__ import annotations

import json
import math

from hypothesis import given

from harness.check.result import RunResult
from harness.report.verdict import verdict_json
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering


def test_verdict_reads_back_as_what_was_judged() -> None:
    """The file is the result itself: reading it gives an equal one."""
    result = examples.mixed_report().result
    assert RunResult.model_validate_json(verdict_json(result)) == result


@rendering
@given(ANYTHING)
def test_any_text_is_strict_json(text: str) -> None:
    """Whatever a model said, the file is UTF-8 and JSON that strict readers accept."""
    written = verdict_json(examples.hostile_report(text).result).encode("utf-8")
    assert RunResult.model_validate_json(written).verdict == "corrupt"


def test_numbers_that_are_not_finite_are_null() -> None:
    """JSON has neither infinity nor not-a-number."""
    cell = examples.corrupt_cell()
    finding = cell.findings[0].model_copy(update={"evidence": {"gap": math.inf, "all": [math.nan]}})
    result = examples.result_of(cell.model_copy(update={"findings": (finding,)}))
    read = json.loads(verdict_json(result))
    assert read["cells"][0]["findings"][0]["evidence"] == {"gap": None, "all": [None]}
