"""The report in a terminal: a table of cells, then the witness of every cell that is not clean.

Every string that does not come from this package enters as a ``Text`` that has been made
visible: nothing a model answers is read as markup or reaches the terminal as a control.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.check.result import Witness
from harness.report.advice import advice
from harness.report.model import CellReport, Report
from harness.report.plain import plain_lines
from harness.report.remarks import Remark, remarks, remarks_on_run, why
from harness.report.tables import can_draw, print_line
from harness.report.text import count, end_of, one_line, shorten, visible
from harness.report.witness import ENDS_HERE, Row, facts, parting, where_they_part
from harness.report.words import SYMBOLS, cause_of, headline, run_outcome, short_bound, what_was_found
from harness.report.writer import WrittenReport

STYLES = {
    "clean": "green",
    "corrupt": "bold red",
    "degraded": "bold yellow",
    "inconclusive": "bold magenta",
    "error": "bold blue",
    "interrupted": "bold",
}

_SHARED_SHOWN = 160
"""Characters of the common beginning that are shown: its end is what matters."""
_REST_SHOWN = 480
_PROMPT_SHOWN = 240
_LINE_SHOWN = 600
_FINDINGS_SHOWN = 2
"""Of each checker."""
_LOG_LINES_SHOWN = 12
_SIDE_BY_SIDE = 64
"""Columns below which the two answers stand one under the other."""
_WHOLE_TABLE = 110
"""Columns below which the table of cells gathers what it says in fewer columns."""


def show_report(report: Report, console: Console, *, written: WrittenReport | None = None) -> None:
    """Print ``report``; the last line names the report on disk, where one was ``written``.

    A console that is not a terminal, cannot move its cursor or cannot encode the symbols
    gets plain lines.
    """
    if can_draw(console):
        # Commands are wrapped by the terminal itself, so that they can be copied in one piece.
        console.print(render_terminal(report, width=console.width), crop=False)
    else:
        for line in plain_lines(report):
            print_line(console, line)
    if written is not None:
        print_line(console, "")
        print_line(console, f"report: {written.best}")


def render_terminal(report: Report, *, width: int) -> RenderableType:
    """Return the report for a terminal of ``width`` columns."""
    said = Text.assemble(_outcome(run_outcome(report)), "  ", (headline(report), "bold"))
    parts: list[RenderableType] = ["", said, *_next(report), _cells(report, width=width)]
    parts += (_labelled(label, text) for label, text in remarks_on_run(report))
    for cell in report.cells:
        if cell.outcome != "clean":
            details = Padding(Group(*_details(cell, width=width)), (0, 0, 0, 2))
            parts += ["", _title(cell), details, _command(cell)]
    return Group(*parts)


def _next(report: Report) -> Iterator[Text]:
    step = advice(report)
    yield _labelled("do this next", step.sentence)
    if step.command:
        yield _whole(Text(f"  {one_line(step.command)}", style="bold"))


def _whole(line: Text) -> Text:
    """A line that the terminal itself wraps, so that it can be copied in one piece."""
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _outcome(outcome: str) -> Text:
    return Text(f"{SYMBOLS[outcome]} {outcome}", style=STYLES[outcome])


def _cells(report: Report, *, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("verdict", no_wrap=True)
    if width < _WHOLE_TABLE:
        table.add_column("cell", overflow="fold")
        table.add_column("", overflow="fold")
        for cell in report.cells:
            table.add_row(_outcome(cell.outcome), Text(_short(cell.title)), Text(_in_brief(cell)))
        return table
    for heading in ("scenario", "arm", "cause", "findings", "bound"):
        table.add_column(heading, justify="right" if heading == "findings" else "left", overflow="fold")
    for cell in report.cells:
        table.add_row(
            _outcome(cell.outcome),
            Text(_short(cell.result.scenario)),
            Text(_short(cell.result.arm)),
            Text(cause_of(cell) or "-"),
            Text(str(len(cell.result.findings) or "-")),
            Text(short_bound(cell.result.bound) or "-"),
        )
    return table


def _in_brief(cell: CellReport) -> str:
    findings = len(cell.result.findings)
    parts = (cause_of(cell), count(findings, "finding") if findings else "", short_bound(cell.result.bound))
    return ", ".join(filter(None, parts))


def _title(cell: CellReport) -> Text:
    cause = f": {cause_of(cell)}" if cell.result.cause else ""
    return Text.assemble(_outcome(cell.outcome), f"  {_short(cell.title)}{cause}")


def _labelled(label: str, text: str) -> Text:
    return Text.assemble((f"{label}: ", "dim"), _short(text))


def _short(text: str) -> str:
    return shorten(one_line(text), limit=_LINE_SHOWN)


def _command(cell: CellReport) -> Text:
    return _whole(Text.assemble(("  reproduce: ", "dim"), (one_line(cell.reproduce), "bold")))


def _details(cell: CellReport, *, width: int) -> Iterator[RenderableType]:
    yield Text(_short(what_was_found(cell)))
    yield _table(why(cell))
    if cell.result.witness:
        yield from _witness(cell.result.witness, cell=cell, width=width)
    yield _table(remarks(cell, findings=_FINDINGS_SHOWN, log_lines=_LOG_LINES_SHOWN))


def _table(said: Iterable[Remark]) -> Table:
    """Labelled lines, each label once."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    previous = ""
    for label, text in said:
        table.add_row("" if label == previous else label, Text(shorten(text, limit=_LINE_SHOWN)))
        previous = label
    return table


def _witness(witness: Witness, *, cell: CellReport, width: int) -> Iterator[RenderableType]:
    split = parting(witness)
    yield ""
    yield _labelled("witness", f"prompt {witness.prompt}")
    yield Text(shorten(one_line(witness.prompt_text), limit=_PROMPT_SHOWN), style="italic")
    yield Text(where_they_part(witness), style="bold")
    baseline = _answer(split.shared, split.baseline, style="cyan")
    after = _answer(split.shared, split.after, style="yellow")
    rows = facts(witness, token_texts=cell.token_texts)
    if width < _SIDE_BY_SIDE:
        yield from _stacked("baseline", baseline, [(row.label, row.baseline) for row in rows])
        yield from _stacked("after", after, [(row.label, row.after) for row in rows])
        yield ""
    else:
        yield _side_by_side(baseline, after, rows)


def _side_by_side(baseline: Text, after: Text, rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column("", style="dim", no_wrap=True)
    table.add_column("baseline", ratio=1, overflow="fold")
    table.add_column("after", ratio=1, overflow="fold")
    table.add_row("answer", baseline, after)
    for row in rows:
        table.add_row(row.label, Text(row.baseline), Text(row.after))
    return table


def _stacked(name: str, answer: Text, rows: list[tuple[str, str]]) -> Iterator[Text]:
    yield Text(name, style="bold underline")
    yield answer
    for label, value in rows:
        yield _labelled(label, value or "-")


def _answer(shared: str, rest: str, *, style: str) -> Text:
    """The answer with the place where the two part marked by a sign as well as by colour."""
    return Text.assemble(
        (end_of(visible(shared), limit=_SHARED_SHOWN), "dim"),
        ("▶", "bold"),
        (shorten(visible(rest), limit=_REST_SHOWN) or ENDS_HERE, f"bold {style}"),
    )
