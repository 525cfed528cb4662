"""Tables for terminals, logs and Markdown."""

from __future__ import annotations

import io

from hypothesis import given
from markdown_it import MarkdownIt
from rich.console import Console

from harness.report.tables import Row, Table, markdown_table, show_table
from tests.report.test_text import ANYTHING, rendering, shows_itself


def of_text(text: str) -> Table:
    """A table in which everything is ``text``."""
    row = Row(fields=(text, "second"), tone="worse")
    return Table(title=text, headings=(text, text), rows=(row, row))


@rendering
@given(ANYTHING)
def test_a_log_gets_one_harmless_line_a_row(text: str) -> None:
    """Title, headings, two rows, an empty line; nothing repaints or reorders the log."""
    out = io.StringIO()
    show_table(of_text(f"{text}a"), Console(file=out, width=200))
    assert shows_itself(out.getvalue())
    assert out.getvalue().count("\n") == 5


@rendering
@given(ANYTHING)
def test_markdown_has_as_many_fields_as_the_table(text: str) -> None:
    """No text ends a field, begins a heading or becomes markup."""
    html = MarkdownIt("commonmark").enable("table").render("\n".join(markdown_table(of_text(f"a{text}"))))
    assert (html.count("<th>"), html.count("<td>"), html.count("<h3>")) == (2, 4, 1)
    assert html.count("<") == 2 * html.count("</")


def test_columns_are_aligned() -> None:
    """Off a terminal a column starts at the same place in every row."""
    out = io.StringIO()
    rows = (Row(fields=("a", "1")), Row(fields=("longer", "2")))
    show_table(Table(title="", headings=("name", "n"), rows=rows), Console(file=out))
    assert out.getvalue() == "name    n\na       1\nlonger  2\n\n"
