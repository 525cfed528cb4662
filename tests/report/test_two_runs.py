"""Two runs side by side."""

from __future__ import annotations

import pytest

from harness.check.result import CellResult, Verdict
from harness.report.model import Report, assemble
from harness.report.two_runs import TwoRuns, two_runs_md
from harness.report.two_runs_page import two_runs_html
from tests.report import examples
from tests.report.test_page import Page

CLEAN, CORRUPT, DEGRADED = examples.clean_cell(), examples.corrupt_cell(), examples.degraded_cell()


def pair(before: CellResult, after: CellResult) -> TwoRuns:
    """Two runs of the same single cell."""
    named = (cell.model_copy(update={"cell": "same.cell"}) for cell in (before, after))
    first, second = (assemble(examples.result_of(cell), {}) for cell in named)
    return TwoRuns(first=first, second=second)


@pytest.mark.parametrize(
    ("before", "after", "tone"),
    [
        (CLEAN, CLEAN, "same"),
        (CLEAN, CORRUPT, "worse"),
        (DEGRADED, CORRUPT, "worse"),
        (CORRUPT, CLEAN, "better"),
        (CLEAN, examples.inconclusive_cell(), "changed"),
        (examples.failed_cell(), CLEAN, "changed"),
        (CORRUPT, CORRUPT.model_copy(update={"cause": DEGRADED.cause}), "changed"),
    ],
)
def test_better_and_worse(before: CellResult, after: CellResult, tone: str) -> None:
    """Only clean, degraded and corrupt have an order; everything else that differs has merely changed."""
    assert pair(before, after).tone == tone


DOUBT = examples.inconclusive_cell()


@pytest.mark.parametrize(
    ("before", "after", "changed", "worse"),
    [
        (CLEAN, CLEAN, 0, 0),
        (CLEAN, CORRUPT, 1, 1),
        (CORRUPT, CLEAN, 1, 0),
        (CORRUPT, CORRUPT, 0, 0),
        (CLEAN, DOUBT, 1, 3),
        (CLEAN, examples.failed_cell(), 1, 3),
        (DOUBT, CLEAN, 1, 0),
        (DOUBT, DOUBT, 0, 0),
    ],
)
def test_a_job_fails_on_what_it_names(
    before: CellResult, after: CellResult, changed: int, worse: int
) -> None:
    """What broke ends with 1; a cell that lost its verdict ends with 3, and is never passed over."""
    runs = pair(before, after)
    assert runs.held_against("changed") == changed
    assert runs.held_against("worse") == worse


def test_a_cell_that_is_missing_or_new_is_not_passed_over() -> None:
    """A run that leaves a clean cell out is in doubt; a new cell that is corrupt is worse than none."""
    one, both, broken = (
        assemble(examples.result_of(*cells), {})
        for cells in (
            (CLEAN,),
            (CLEAN, DEGRADED.model_copy(update={"verdict": Verdict.CLEAN})),
            (CLEAN, CORRUPT),
        )
    )
    assert TwoRuns(first=both, second=one).held_against("worse") == 3
    assert TwoRuns(first=one, second=both).held_against("worse") == 0
    assert TwoRuns(first=one, second=broken).held_against("worse") == 1
    nothing = assemble(examples.result_of(), {})
    assert TwoRuns(first=one, second=nothing).held_against("worse") == 3


def test_the_headline_counts_what_changed() -> None:
    """Cells that only one run has are told apart from verdicts that changed."""
    first = assemble(examples.result_of(CLEAN, DEGRADED), {})
    second = assemble(examples.result_of(CLEAN.model_copy(update={"verdict": Verdict.CORRUPT})), {})
    runs = TwoRuns(first=first, second=second)
    assert runs.headline == "1 of 1 verdict changed: 1 worse; 1 cell in one of the runs only."
    assert pair(CLEAN, CLEAN).headline == "The verdicts of 1 cell are the same."


def test_times_memory_and_noise_stand_beside_each_other() -> None:
    """A measure that changed says by how much; what only one run has stands beside a dash."""
    tables = {table.title: table.rows for table in mixed_and_clean().tables()}
    measured = {row.fields[:2]: row.fields[2:] for row in tables["Time and memory (medians)"]}
    cell = "prefix-cache-level1.prefix-cache-off"
    assert measured[cell, "sleep (level 1)"][2] == "+0%"
    assert measured["prefix-cache-level2.prefix-cache-on", "wake_up"][1:] == ("-", "-")
    assert (cell, *["exactly zero over 8 answers"] * 2) in [row.fields for row in tables["Noise floors"]]


def mixed_and_clean() -> TwoRuns:
    """A run of every outcome and a clean one."""
    return TwoRuns(first=examples.mixed_report(), second=examples.clean_report())


@pytest.mark.parametrize("report", [examples.mixed_report(), examples.hostile_report()])
def test_page_is_well_formed_and_loads_nothing(report: Report) -> None:
    """Every tag is closed, nothing is requested, and no text of a run becomes markup."""
    html = two_runs_html(TwoRuns(first=report, second=examples.clean_report()))
    page = Page(html)
    assert "script" not in page.tags
    assert "://" not in html.replace("http://evil.example", "")
    assert len(page.ids) == len(set(page.ids))


def test_markdown_tells_the_same() -> None:
    """Headline, and one table for each question."""
    markdown = two_runs_md(mixed_and_clean())
    assert "of 2 verdicts changed: 1 better; 3 cells in one of the runs only." in markdown
    for title in ("Runs", "Verdicts", "Time and memory (medians)", "Noise floors"):
        assert f"### {title}" in markdown
