"""The report as plain lines: for logs, files and every terminal that shows text alone.

Nothing is coloured or drawn and no line is cut off, so that a log can be searched.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.report.advice import advice
from harness.report.model import CellReport, Report
from harness.report.remarks import remarks, remarks_on_run, why
from harness.report.text import one_line
from harness.report.witness import ENDS_HERE, facts, parting, where_they_part
from harness.report.words import headline, outcome_of, run_outcome, tile, what_was_found

_COLUMN = 14
"""Width of the labels, as wide as the longest of them."""
_FINDINGS_SHOWN = 10
"""Of each checker."""


def plain_lines(report: Report) -> Iterator[str]:
    """Yield the whole report, line by line."""
    yield f"sleepwake: {run_outcome(report)}. {headline(report)}"
    step = advice(report)
    yield f"do this next: {one_line(step.sentence)}"
    if step.command:
        yield f"  {one_line(step.command)}"
    yield ""
    width = max((len(cell.outcome) for cell in report.cells), default=0)
    for cell in report.cells:
        told = tile(cell)
        yield f"{cell.outcome:<{width}}  {one_line(cell.title)}" + (f": {told}" if told else "")
    yield ""
    for label, text in remarks_on_run(report):
        yield f"{label}: {one_line(text)}"
    for cell in report.cells:
        yield ""
        yield from cell_lines(cell)


def cell_lines(cell: CellReport) -> Iterator[str]:
    """Yield everything there is to say about one cell."""
    yield f"{one_line(cell.title)}: {outcome_of(cell)}"
    yield f"  {one_line(what_was_found(cell))}"
    for label, text in why(cell):
        yield f"  {label + ':':<{_COLUMN}} {text}"
    yield from _witness_lines(cell)
    for label, text in remarks(cell, findings=_FINDINGS_SHOWN):
        yield f"  {label + ':':<{_COLUMN}} {text}"
    yield f"  {'reproduce:':<{_COLUMN}} {one_line(cell.reproduce)}"


def _witness_lines(cell: CellReport) -> Iterator[str]:
    witness = cell.result.witness
    if witness is None:
        return
    split = parting(witness)
    yield f"  {'witness:':<{_COLUMN}} prompt {one_line(witness.prompt)}"
    yield f"    {where_they_part(witness)}"
    yield f"    {'prompt':<{_COLUMN}} {one_line(witness.prompt_text)}"
    yield f"    {'both begin':<{_COLUMN}} {one_line(split.shared) or '(nothing in common)'}"
    yield f"    {'baseline':<{_COLUMN}} {one_line(split.baseline) or ENDS_HERE}"
    yield f"    {'after':<{_COLUMN}} {one_line(split.after) or ENDS_HERE}"
    for row in facts(witness, token_texts=cell.token_texts):
        yield f"    {row.label:<{_COLUMN}} baseline {row.baseline or '-'} | after {row.after or '-'}"
