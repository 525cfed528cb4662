"""The report as plain lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from syrupy.assertion import SnapshotAssertion

from harness.report.model import Report
from harness.report.plain import plain_lines
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering, shows_itself


@pytest.mark.parametrize(
    "report",
    [examples.mixed_report(), examples.clean_report(), examples.hostile_report()],
    ids=["mixed", "clean", "hostile"],
)
def test_plain_report(report: Report, snapshot: SnapshotAssertion) -> None:
    """The whole report, line by line."""
    assert "\n".join(plain_lines(report)) == snapshot


@rendering
@given(ANYTHING)
def test_plain_lines_are_lines_of_printable_text(text: str) -> None:
    """No answer can end a line, move the cursor or colour anything."""
    assert all(shows_itself(line) and "\n" not in line for line in plain_lines(examples.hostile_report(text)))


def test_nothing_is_cut_off() -> None:
    """A log holds the whole of both answers, however long."""
    report = examples.hostile_report("x" * 100_000)
    assert any(line.count("x") >= 100_000 for line in plain_lines(report))
