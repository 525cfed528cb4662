"""Runs over days and releases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from harness.check.result import CellResult
from harness.report.measures import Measure
from harness.report.trends import PastCell, PastRunOfCells, over_time, trends_html
from tests.report import examples
from tests.report.test_page import Page


def night(number: int, *cells: CellResult, vllm: str = "0.31.0", bytes_: float = 2.0**30) -> PastRunOfCells:
    """The run of one night."""
    measured = (Measure(name="resident memory asleep", value=bytes_, unit="bytes"),)
    return PastRunOfCells(
        name=f"night-{number}",
        started=datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=number),
        vllm=vllm,
        outcome="clean",
        cells={cell.cell: PastCell(result=cell, measures=measured) for cell in cells},
    )


def nights() -> Sequence[PastRunOfCells]:
    """Three nights; before the last one vLLM changed."""
    clean, corrupt = examples.clean_cell(), examples.corrupt_cell()
    return (
        night(1, clean),
        night(2, clean, corrupt, bytes_=2.0**31),
        night(3, clean, corrupt, vllm="0.32.0", bytes_=2.0**30),
    )


def test_every_cell_has_its_verdicts_in_a_row() -> None:
    """A run that does not have a cell leaves its place empty."""
    clean, corrupt = over_time(nights())
    assert [past.outcome if past else None for past in clean.cells] == ["clean"] * 3
    assert [past.words if past else None for past in corrupt.cells] == [
        None,
        *["corrupt (stale prefix cache)"] * 2,
    ]


def test_a_line_runs_between_its_least_and_its_most() -> None:
    """The largest value is on top, and another release is marked between the two runs."""
    (line,) = over_time(nights())[0].lines
    assert (line.latest, line.least, line.most) == ("1,024 MiB", "1,024 MiB", "2,048 MiB")
    assert line.points == "6.0,42.0 120.0,6.0 234.0,42.0"
    assert line.releases == (177.0,)


def test_one_run_makes_no_line() -> None:
    """A single point shows no trend."""
    assert over_time([night(1, examples.clean_cell())])[0].lines == ()


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    """It opens offline, and its links lead to the runs' own pages where there are any."""
    html = trends_html(nights(), links={"night-2": "night-2/report.html"})
    page = Page(html)
    assert "script" not in page.tags
    assert "://" not in html
    assert ("a", "href", "night-2/report.html") in page.attributes
    assert len(page.ids) == len(set(page.ids))
    assert "The newest run is clean." in page.text


def test_a_hostile_name_stays_text() -> None:
    """What a scenario or an arm is called never becomes markup."""
    cell = examples.clean_cell().model_copy(update={"cell": "<script>alert(1)</script>"})
    assert "<script>" not in trends_html([night(1, cell)], links={})
