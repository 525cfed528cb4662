"""Whatever a model answers is shown harmlessly, in every format and through the real writers."""

from __future__ import annotations

import io
import json
import re
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from harness.check.result import RunResult
from harness.report import show_report, write_report
from harness.report.bug_report.issue import issue_md
from tests.report import examples
from tests.report.test_text import ANYTHING, shows_itself
from tests.trying import tries

BREAKING_OUT = st.sampled_from(
    [
        "<script>alert(1)</script>", "]]>", "-->", "</pre></details></style>", "&lt;&#0;", "{{ 7*7 }}",
        "\x1b[2J\x1b]0;title\x07", "\x9b31m", "\x00", "\r\n", "\x7f", "\ud800", "\udfff", "\U000e0041",
        "\u202e", "\u2066", "\u200f", "\u2028", "\ufeff", "\ufffe", "[bold red]x[/]", "[/]", "\\", "```",
        "| a | b |", "![x](http://evil.example)", "@someone", "::error::x", "\n\n# heading\n", "$(id)", "'\"",
    ]
)  # fmt: skip
HOSTILE = st.lists(st.one_of(BREAKING_OUT, ANYTHING), max_size=8).map("".join)

_COLOURS = re.compile(r"\x1b\[[\d;]*m")
"""What the terminal's own styles are made of."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One report in all formats."""

    terminal: str
    plain: str
    html: str
    junit: str
    markdown: str
    verdict: str
    issue: str


class Tags(HTMLParser):
    """Every tag of a page with the names of its attributes, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.seen.append((tag, [name for name, _ in attrs]))


def tell(text: str) -> Told:
    """Write a report in which everything is ``text``, as a run does, and read it back."""
    report = examples.hostile_report(text)
    terminal, plain = io.StringIO(), io.StringIO()
    show_report(report, Console(file=terminal, force_terminal=True, width=100, _environ={"TERM": "xterm"}))
    show_report(report, Console(file=plain, width=100))
    with tempfile.TemporaryDirectory() as folder:
        written = write_report(Path(folder), report)
        assert written.html
        return Told(
            terminal=_COLOURS.sub("", terminal.getvalue()),
            plain=plain.getvalue(),
            html=written.html.read_text(encoding="utf-8"),
            junit=written.junit.read_text(encoding="utf-8"),
            markdown=written.summary.read_text(encoding="utf-8"),
            verdict=written.verdict.read_text(encoding="utf-8"),
            issue=issue_md(report.cells[0], report.run, repro=None, script=None),
        )


def rendered(markdown: str) -> str:
    """As GitHub renders it."""
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


@tries(20)
@given(HOSTILE)
@example("<\u202e" * 10_000)
def test_every_format_shows_it_harmlessly(text: str) -> None:
    """Nothing hides, reorders, repaints or becomes markup; what is a document stays one."""
    told, harmless = tell(f"{text}a"), tell("\n" * text.count("\n") + "aa")
    for shown in (told.terminal, told.plain, told.html, told.junit, told.markdown, told.verdict, told.issue):
        assert shows_itself(shown)
    assert Tags(told.html).seen == Tags(harmless.html).seen
    assert Tags(rendered(told.markdown)).seen == Tags(rendered(harmless.markdown)).seen
    assert Tags(rendered(told.issue)).seen == Tags(rendered(harmless.issue)).seen
    elements, expected = (ET.fromstring(each.junit.encode()) for each in (told, harmless))  # noqa: S314 - our own
    assert [each.tag for each in elements.iter()] == [each.tag for each in expected.iter()]
    assert RunResult.model_validate_json(told.verdict).cells[0].witness
    assert told.plain.count("\n") <= harmless.plain.count("\n") + text.count("\n")


def test_what_was_said_can_be_read_back() -> None:
    """JSON loses nothing but half surrogates: whoever reads the file gets the answer as it was."""
    text = "\u202eabc\x00\x1b[31m\U000e0041 गंगा\n"
    witness = json.loads(tell(text).verdict)["cells"][0]["witness"]
    assert witness["after"]["text"].endswith(text)
