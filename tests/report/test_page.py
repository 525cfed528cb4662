"""``report.html``: complete in itself, readable without scripts, and safe to open."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from syrupy.assertion import SnapshotAssertion

import harness.report
from harness.check.result import CellResult
from harness.report.model import SEVERITY, Report, assemble
from harness.report.page import report_html
from tests.check.stories import clean_story
from tests.conftest import leave_undrawn
from tests.report import examples
from tests.report.browser.runs import corrupt
from tests.report.test_text import ANYTHING, rendering

VOID = {"meta", "link", "br", "img", "input"}
LOADING = {
    "src",
    "srcset",
    "href",
    "xlink:href",
    "action",
    "data",
    "poster",
    "background",
    "formaction",
    "ping",
}
BLOCKS = {"p", "li", "tr", "h1", "h2", "h3", "h4", "dt", "summary", "blockquote", "pre", "figcaption", "a"}


class Page(HTMLParser):
    """A page as a strict reader sees it: its tags in order, its text, and whatever does not fit."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag; remember that it is open."""
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.text += "\n" if tag in BLOCKS else " " if tag in {"td", "th", "dd"} else ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself, as those of SVG do."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every tag closes the one that was opened last."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Gather what is read, styles apart."""
        if not {"style", "script"} & {*self._open} and "svg" not in self._open:
            self.text += data


@pytest.fixture(scope="module")
def mixed() -> str:
    """The page of one cell of every outcome."""
    return report_html(examples.mixed_report())


def lines(html: str) -> list[str]:
    """What the page says, a block a line."""
    return [" ".join(line.split()) for line in Page(html).text.splitlines() if line.strip()]


def test_page_says(mixed: str, snapshot: SnapshotAssertion) -> None:
    """Everything the page says, without its looks."""
    assert "\n".join(lines(mixed)) == snapshot


def test_tags_are_balanced_and_ids_unique(mixed: str) -> None:
    """The page is well-formed, and links inside it have one target."""
    page = Page(mixed)
    assert len(page.ids) == len(set(page.ids))
    targets = [value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")]
    assert set(targets) <= set(page.ids)
    assert {f"cell-{number}" for number in range(1, 6)} <= set(targets)


def test_nothing_is_loaded_from_anywhere(mixed: str) -> None:
    """The page opens offline: there is no address in it, and its policy forbids every request."""
    page = Page(mixed)
    addresses = [value for _, name, value in page.attributes if name in LOADING]
    assert all(value.startswith("#") or value == "data:," for value in addresses)
    assert "://" not in mixed
    assert "@import" not in mixed
    assert "url(" not in mixed
    policies = [value for tag, name, value in page.attributes if tag == "meta" and name == "content"]
    assert any(value.startswith("default-src 'none'") for value in policies)


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        ("data:image/png;base64,AAAA", ["data:image/png;base64,AAAA"]),
        ('data:image/png,"><script>', ['data:image/png,"><script>']),
        ("https://example.org/a.png", []),
        (None, []),
    ],
)
def test_a_witness_shows_its_picture(
    picture: str | None, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the prompt showed stands beside its text, if the history holds it; nothing else is loaded."""
    leave_undrawn(monkeypatch)
    cell = examples.corrupt_cell()
    assert cell.witness is not None
    recorded = examples.recording(stuck=("india", "rivers"))
    prompts = {
        name: prompt.model_copy(update={"picture": picture}) for name, prompt in recorded.prompts.items()
    }
    report = assemble(examples.result_of(cell), {cell.cell: replace(recorded, prompts=prompts)})
    page = Page(report_html(report))
    assert [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")] == shown
    assert page.tags.count("script") == 1


def test_nothing_runs_but_the_pages_own_script(mixed: str) -> None:
    """The policy knows the one script by its checksum, and there is no event handler."""
    page = Page(mixed)
    (script,) = re.findall(r"<script>(.*?)</script>", mixed, flags=re.DOTALL)
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [value for tag, name, value in page.attributes if value.startswith("default-src")]
    assert f"script-src 'sha256-{checksum}';" in policy
    assert page.tags.count("script") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_what_needs_the_script_is_hidden_without_it(mixed: str) -> None:
    """No button is shown that does nothing."""
    assert '<div class="filter" role="search" hidden>' in mixed
    assert mixed.count("<button") == mixed.count('class="copy" hidden>') + 5


def test_the_reason_is_told_once() -> None:
    """The first screen tells what was found and why; the cell below refers to it."""
    cell = clean_story().judged()
    assert cell.grounds is None
    damaged = corrupt().judged()
    assert damaged.grounds
    html = report_html(assemble(examples.result_of(damaged), {damaged.cell: corrupt().recording()}))
    for sentence in (damaged.grounds.what, *damaged.grounds.because):
        assert html.count(sentence) == 1
    assert damaged.reason not in html
    assert html.index(damaged.grounds.what) < html.index('<section id="example"') < html.index("blockquote>")


def test_plots_are_drawn_where_there_is_something_to_see() -> None:
    """Answers that all equal their baseline need no picture."""
    story = clean_story()
    html = report_html(assemble(examples.result_of(story.judged()), {"cell": story.recording()}))
    assert "Agreement with the baseline" not in html


@pytest.mark.parametrize("cell", [examples.corrupt_cell(), examples.clean_cell(), examples.failed_cell()])
def test_first_screen_tells_the_verdict(cell: CellResult) -> None:
    """The heading is the verdict in a sentence, and the page's title begins with its word."""
    title, _, heading, *_ = lines(report_html(assemble(examples.result_of(cell), {})))
    assert title.startswith(cell.verdict.value if cell.verdict else "error")
    assert heading[2:].startswith("The cell")


def test_broken_cells_stand_open(mixed: str) -> None:
    """Whoever opens the page sees what is wrong without a click; clean cells are closed."""
    assert len(re.findall(r'<details class="cell (\w+)" data-outcome="\1" open>', mixed)) == 4
    assert '<details class="cell clean" data-outcome="clean">' in mixed


def test_every_changed_answer_is_told_token_by_token(mixed: str) -> None:
    """Not the witness alone: where it parts is framed, and pointing at a token tells what was likely."""
    changed = re.findall(r'<details class="change">.*?</details>', mixed, flags=re.DOTALL)
    assert len(changed) == 2
    for each in changed:
        (part,) = re.findall(r'<li class="part">.*?</li>', each, flags=re.DOTALL)
        assert re.findall(r'class="chip (baseline|after)" title="99.6% ', part) == ["baseline", "after"]


def test_a_timeline_is_one_click_away(mixed: str) -> None:
    """In a cell that stands open it is a click on the timeline; in a closed one, the click on the cell."""
    cells = re.split(r'<details class="cell ', mixed)[1:]
    for cell in cells:
        stands_open = cell.startswith(
            tuple(f'{outcome}" data-outcome="{outcome}" open>' for outcome in SEVERITY)
        )
        timeline = "<details>" if stands_open else "<details open>"
        assert f"{timeline}\n  <summary>Timeline: " in cell


@rendering
@given(ANYTHING)
def test_no_answer_becomes_markup(text: str) -> None:
    """A page of hostile text has exactly the tags and attributes of a page of harmless text."""
    harmless = "a" * max(2, len(text) + 1)
    hostile, expected = (Page(report_html(examples.hostile_report(each))) for each in (f"{text}a", harmless))
    assert hostile.tags == expected.tags
    assert [each[:2] for each in hostile.attributes] == [each[:2] for each in expected.attributes]


@rendering
@given(ANYTHING)
def test_page_is_utf8_without_controls(text: str) -> None:
    """Whatever a model answers, the file can be written and holds no control character but line breaks."""
    html = report_html(examples.hostile_report(text)).encode("utf-8").decode("utf-8")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", html)


def test_template_syntax_in_answers_is_text() -> None:
    """``{{ 7 * 7 }}`` in an answer is shown, not computed."""
    html = report_html(examples.hostile_report("{{ 7 * 7 }}{% raw %}"))
    assert "{{ 7 * 7 }}{% raw %}" in html
    assert "49" not in "".join(lines(html)[:30])


def test_end_of_the_servers_log_is_shown(mixed: str) -> None:
    """Of a cell whose server died the log stands open; of any other it is one click away."""
    assert mixed.count("<details open>\n  <summary>Server's log") == 1
    log = "INFO \x1b[32mstarted\x1b[0m <b>\n" + "x" * 3000
    cell = examples.clean_cell()
    html = report_html(assemble(examples.result_of(cell), {}, server_logs={cell.cell: log}))
    assert "INFO \\x1b[32mstarted\\x1b[0m &lt;b&gt;" in html
    assert "(1000 more characters)" in html
    assert "Server's log: its last 2 lines" in html


def test_page_is_small(mixed: str) -> None:
    """Five cells stay far below two megabytes, and so does an answer of a hundred thousand characters."""
    assert len(mixed.encode()) < 500_000
    assert len(report_html(examples.hostile_report("<" * 100_000)).encode()) < 3_000_000


def test_page_of_a_run_without_cells() -> None:
    """Nothing run is still a page."""
    html = report_html(Report(result=examples.result_of(), cells=()))
    assert "No cell was run." in Page(html).text


def test_colours_can_be_told_from_their_background() -> None:
    """Text of every colour has the contrast WCAG 2 asks for (4.5 to 1), light and dark."""
    css = (Path(harness.report.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    for scheme in re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[:2]:
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", scheme))
        outcomes = ("clean", "corrupt", "degraded", "inconclusive", "error")
        pairs = [(name, f"{name}-wash") for name in outcomes] + [("ink", f"{name}-wash") for name in outcomes]
        pairs += [(text, ground) for text in ("ink", "soft") for ground in ("paper", "card", "code")]
        pairs += [(side, "card") for side in ("baseline", "after", *outcomes)]
        pairs += [("ink", "baseline-wash"), ("ink", "after-wash"), ("soft", "clean-wash")]
        for text, ground in pairs:
            assert contrast(colours[text], colours[ground]) >= 4.5, f"{text} on {ground}"


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours as WCAG 2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
