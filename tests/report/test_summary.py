"""``summary.md``."""

from __future__ import annotations

from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given
from syrupy.assertion import SnapshotAssertion

from harness.report.model import CellReport, Report
from harness.report.summary import LIMIT_BYTES, summary_md
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering


def rendered(report: Report) -> str:
    """The summary as GitHub's own renderer makes it, before GitHub takes out what it does not allow."""
    text = cmarkgfm.github_flavored_markdown_to_html(summary_md(report), options=Options.CMARK_OPT_UNSAFE)
    return str(text)


class Tags(HTMLParser):
    """Every tag of a page, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag with its attributes."""
        self.seen.append(f"{tag} {attrs}")


def tags(report: Report) -> list[str]:
    """The tags of the summary once it has been rendered as Markdown."""
    parser = Tags()
    parser.feed(rendered(report))
    return parser.seen


@pytest.mark.parametrize(
    "report",
    [examples.mixed_report(), examples.clean_report(), examples.hostile_report()],
    ids=["mixed", "clean", "hostile"],
)
def test_summary(report: Report, snapshot: SnapshotAssertion) -> None:
    """The whole file."""
    assert summary_md(report) == snapshot


@rendering
@given(ANYTHING)
def test_no_answer_becomes_markup(text: str) -> None:
    """Rendered, a summary of hostile text has the tags of one of harmless text, no more and no fewer."""
    lines = "\n" * text.count("\n")
    assert tags(examples.hostile_report(f"{text}a")) == tags(examples.hostile_report(f"{lines}a"))


@pytest.mark.parametrize("report", [examples.mixed_report(), examples.hostile_report()])
def test_no_table_is_broken(report: Report) -> None:
    """Every line of a table is a row, and no cell of one falls over its end."""
    lines = [line for line in summary_md(report).splitlines() if line.startswith("|")]
    rules = [line for line in lines if line.startswith("|---")]
    seen = [tag.split()[0] for tag in tags(report)]
    assert (seen.count("table"), seen.count("tr")) == (len(rules), len(lines) - len(rules))
    assert seen.count("th") + seen.count("td") == sum(
        line.count("|") - 1 for line in lines if line not in rules
    )


def test_links_and_mentions_in_answers_are_inert() -> None:
    """GitHub makes links of bare addresses and notifies whoever is mentioned: neither is left."""
    text = summary_md(examples.hostile_report("see https://evil.example and www.evil.example, @someone"))
    outside_blocks = "\n".join(line for line in text.splitlines() if not line.startswith("<pre>"))
    assert "://" not in outside_blocks
    assert "www.evil" not in outside_blocks
    assert "@someone" not in outside_blocks


def test_summary_stays_under_the_limit_of_github() -> None:
    """However many cells are broken, the file is accepted, and says what it leaves out."""
    cells = tuple(CellReport(result=examples.corrupt_cell(text="<" * 10_000)) for _ in range(60))
    text = summary_md(Report(result=examples.result_of(), cells=cells))
    assert len(text.encode()) < 2**20 > LIMIT_BYTES
    assert "do not fit here" in text
