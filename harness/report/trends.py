"""Runs over days and releases: the table of verdicts, and a small line for every measure of a cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from harness.check.result import CellResult
from harness.errors import InterruptedRunError
from harness.report.measures import Measure
from harness.report.page import page_environment
from harness.report.words import SYMBOLS, cause_words

_WIDTH, _HEIGHT, _AIR = 240, 48, 6
"""Of a line, in units of the drawing."""


@dataclass(frozen=True, kw_only=True)
class PastCell:
    """One cell in one run: its verdict, and what it took."""

    result: CellResult
    measures: tuple[Measure, ...] = ()

    @property
    def outcome(self) -> str:
        """The verdict in one word; where there is none, ``interrupted`` or ``error``."""
        if self.result.verdict:
            return self.result.verdict.value
        return "interrupted" if self.result.error == InterruptedRunError.__name__ else "error"

    @property
    def words(self) -> str:
        """The verdict with its cause, for who points at it."""
        cause = cause_words(self.result.cause)
        return f"{self.outcome} ({cause})" if cause else self.outcome


@dataclass(frozen=True, kw_only=True)
class PastRunOfCells:
    """One run, cell by cell."""

    name: str
    started: datetime
    vllm: str
    outcome: str
    cells: Mapping[str, PastCell]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measure of one cell over the runs that have it."""

    name: str
    latest: str
    least: str
    most: str
    points: str
    """As SVG's ``polyline`` takes them."""
    last: tuple[float, float]
    releases: tuple[float, ...]
    """Where another vLLM begins."""


@dataclass(frozen=True, kw_only=True)
class CellOverTime:
    """One cell over all runs; None where a run does not have it."""

    name: str
    cells: tuple[PastCell | None, ...]
    lines: tuple[Line, ...]


def over_time(runs: Sequence[PastRunOfCells]) -> list[CellOverTime]:
    """Every cell of any run, in the order in which they first came."""
    names = dict.fromkeys(name for run in runs for name in run.cells)
    return [
        CellOverTime(
            name=name,
            cells=tuple(run.cells.get(name) for run in runs),
            lines=tuple(_lines(name, runs)),
        )
        for name in names
    ]


def _lines(cell: str, runs: Sequence[PastRunOfCells]) -> Iterator[Line]:
    of: dict[str, list[tuple[int, Measure]]] = {}
    for place, run in enumerate(runs):
        for measure in run.cells[cell].measures if cell in run.cells else ():
            of.setdefault(measure.name, []).append((place, measure))
    for name, told in of.items():
        if len(told) > 1:
            yield _line(name, told, runs)


def _line(name: str, told: Sequence[tuple[int, Measure]], runs: Sequence[PastRunOfCells]) -> Line:
    least = min((measure for _, measure in told), key=lambda measure: measure.value)
    most = max((measure for _, measure in told), key=lambda measure: measure.value)
    span = most.value - least.value

    def across(place: float) -> float:
        return round(_AIR + place / max(1, len(runs) - 1) * (_WIDTH - 2 * _AIR), 1)

    def up(value: float) -> float:
        share = (value - least.value) / span if span else 0.5
        return round(_HEIGHT - _AIR - share * (_HEIGHT - 2 * _AIR), 1)

    drawn = [(across(place), up(measure.value)) for place, measure in told]
    releases = [place for place in range(1, len(runs)) if runs[place].vllm != runs[place - 1].vllm]
    return Line(
        name=name,
        latest=told[-1][1].words,
        least=least.words,
        most=most.words,
        points=" ".join(f"{x},{y}" for x, y in drawn),
        last=drawn[-1],
        releases=tuple(across(place - 0.5) for place in releases),
    )


def trends_html(runs: Sequence[PastRunOfCells], *, links: Mapping[str, str]) -> str:
    """Return the page; ``links`` says where a run's own page is, seen from this one."""
    return (
        page_environment()
        .get_template("history.html.j2")
        .render(runs=runs, cells=over_time(runs), links=links, symbols=SYMBOLS, width=_WIDTH, height=_HEIGHT)
    )
