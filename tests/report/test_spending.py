"""Where the time went, as reports tell it."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from harness.history.time_parts import TimeSpent
from harness.report.model import Report, assemble
from harness.report.page import report_html
from harness.report.plain import plain_lines
from harness.report.spending import spending, spending_sentence
from harness.report.summary import summary_md
from harness.report.terminal import show_report
from tests.report import examples


@pytest.fixture
def timed() -> Report:
    """A run whose cells took a minute each, most of it to boot."""
    report = examples.mixed_report()
    cell = TimeSpent(boot=45_000, probes=15_000)
    cells = tuple(each.result.model_copy(update={"milliseconds": cell}) for each in report.cells)
    whole = TimeSpent(boot=45_000 * len(cells), probes=15_000 * len(cells), harness=100)
    return assemble(report.result.model_copy(update={"cells": cells, "milliseconds": whole}), {})


def test_the_sentence_names_the_heaviest_first(timed: Report) -> None:
    """What weighs nothing is left to the table."""
    assert spending_sentence(timed).endswith(": boot 75.0%, probes 25.0%")


def test_every_cell_is_broken_up_below_the_run(timed: Report) -> None:
    """The run comes first, and each cell has its parts."""
    whole, *cells = spending(timed)
    assert [share.name for share in whole.shares] == ["boot", "probes", "sleepwake itself"]
    assert [cell.title for cell in cells] == [cell.title for cell in timed.cells]
    assert {cell.words for cell in cells} == {"60.0 s"}


def test_every_format_tells_it(timed: Report) -> None:
    """Terminal, log, Markdown and page say where the time went."""
    sentence = spending_sentence(timed)
    console = Console(record=True, force_terminal=True, width=200)
    show_report(timed, console)
    assert sentence in console.export_text()
    assert f"time: {sentence}" in plain_lines(timed)
    assert re.search(r"\| boot \| .* \| 75\.0% \|", summary_md(timed))
    assert "Where the time went" in report_html(timed)


def test_nothing_is_said_where_nothing_was_written_down() -> None:
    """A judgement without times has no empty table."""
    report = examples.mixed_report()
    assert (spending(report), spending_sentence(report)) == ([], "")
    assert "Where the time went" not in report_html(report)
