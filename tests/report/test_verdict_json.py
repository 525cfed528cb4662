"""``verdict.json``."""

from __future__ import annotations

import json
import math

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given

from harness.check.result import RunResult
from harness.cli import call
from harness.report.model import Report
from harness.report.verdict_json import verdict_json
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


@pytest.mark.parametrize(
    "report",
    [
        examples.mixed_report(),
        examples.clean_report(),
        examples.hostile_report(),
        Report(result=examples.result_of(), cells=()),
    ],
    ids=["mixed", "clean", "hostile", "empty"],
)
def test_the_file_obeys_its_published_schema(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """What `sleepwake schema verdict` prints describes what runs write, and refuses what they do not."""
    call(["schema", "verdict"])
    schema = json.loads(capsys.readouterr().out)
    written = json.loads(verdict_json(report.result))
    jsonschema.validate(written, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "surprise": 1}, schema)
