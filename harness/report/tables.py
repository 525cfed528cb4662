"""Plain tables, shown in a terminal, in a log or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness.report.summary import escaped
from harness.report.text import one_line, shorten

STYLES = {"worse": "bold red", "better": "green", "changed": "bold magenta", "damaged": "magenta"}

_FIELD_SHOWN = 600


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row; ``tone`` is a word of :data:`STYLES` where the row wants attention."""

    fields: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under headings; the first column names the row."""

    title: str = ""
    headings: tuple[str, ...]
    rows: tuple[Row, ...]


def show_table(table: Table, console: Console) -> None:
    """Print ``table``: drawn on a terminal, elsewhere as aligned lines that can be searched."""
    if table.title:
        print_line(console, _short(table.title), style="bold")
    if can_draw(console):
        drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in table.headings:
            drawn.add_column(Text(_short(heading)), overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(_short(field)) for field in row.fields), style=STYLES.get(row.tone, ""))
        console.print(drawn)
        return
    for line in aligned([table.headings, *(row.fields for row in table.rows)]):
        print_line(console, line)
    console.print()


def can_draw(console: Console) -> bool:
    """Whether what is drawn can be shown: on a terminal that moves its cursor and knows the signs."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")


def print_line(console: Console, line: str, *, style: str = "") -> None:
    """Print a line for the terminal to wrap; what it cannot show is shown as an escape."""
    printable = line.encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(Text(printable, style=style), soft_wrap=True)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield ``rows`` as lines with columns of one width; the last is as long as it is."""
    shown = [[_short(field) for field in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(field.ljust(width) for field, width in zip(row, widths, strict=True)).rstrip()


def markdown_table(table: Table) -> Iterator[str]:
    """Yield ``table`` as GitHub-flavoured Markdown, its title as a heading."""
    if table.title:
        yield f"### {escaped(table.title)}"
        yield ""
    yield _markdown_row(table.headings)
    yield "|" + "---|" * len(table.headings)
    yield from (_markdown_row(row.fields) for row in table.rows)
    yield ""


def _markdown_row(fields: Sequence[str]) -> str:
    return f"| {' | '.join(escaped(_short(field)) for field in fields)} |"


def _short(text: str) -> str:
    return shorten(one_line(text), limit=_FIELD_SHOWN)
