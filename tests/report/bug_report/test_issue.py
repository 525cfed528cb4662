"""``ISSUE.md``."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from markdown_it import MarkdownIt
from pydantic import JsonValue

from harness.history.passes import RequestStarted
from harness.history.recording import InFlight
from harness.history.run_description import DescribedCell, RunDescription
from harness.report.bug_report.issue import LIMIT_CHARACTERS, issue_md, title
from harness.report.bug_report.reproduction import reproduction
from harness.report.model import CellReport, Report
from harness.report.summary import fenced
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering, shows_itself

RUN = RunDescription(run="r", cells={})


def issue(report: Report, number: int = 0) -> str:
    """The issue about one cell, without a script."""
    return issue_md(report.cells[number], report.run, repro=None, script=None)


def test_it_has_the_sections_of_the_template() -> None:
    """Environment, description, checkbox; verdict, controls and what was ruled out in between."""
    text = issue(examples.mixed_report())
    sections = [line for line in text.splitlines() if line.startswith("### ")]
    assert sections == [
        "### Your current environment",
        "### 🐛 Describe the bug",
        "### Before submitting a new issue...",
    ]
    assert "**corrupt**" in text
    assert "Witness: prompt rivers" in text
    assert "Timeline: " in text


def test_a_planted_fault_is_never_passed_off_as_a_bug() -> None:
    """Whoever opens the issue reads first that somebody planted it."""
    assert "this is not a bug of vLLM" in issue(examples.mixed_report())


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "answers change after sleep (level 1), wake_up (stale prefix cache)"),
        (2, "the engine does not come back as it was after sleep (level 2), wake_up (memory)"),
        (4, "the engine fails"),
    ],
)
def test_the_title_says_what_and_after_what(number: int, expected: str) -> None:
    """Transitions and cause as they were recorded."""
    assert title(examples.mixed_report().cells[number]) == expected


class Tags(HTMLParser):
    """Every tag of a page, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag with its attributes."""
        self.seen.append(f"{tag} {attrs}")


@rendering
@given(ANYTHING)
def test_no_answer_becomes_markup(text: str) -> None:
    """Rendered, an issue of hostile text has the tags of one of harmless text; nothing in it is hidden."""
    github = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    hostile, harmless = (
        issue(examples.hostile_report(each)) for each in (f"{text}a", "\n" * text.count("\n") + "a")
    )
    assert Tags(github.render(hostile)).seen == Tags(github.render(harmless)).seen
    assert shows_itself(hostile)


def test_it_fits_into_an_issue() -> None:
    """However long the answers are."""
    report = examples.hostile_report("<" * 100_000)
    report = replace(report, cells=(in_environment(report.cells[0], {"os": "<" * 100_000}), report.cells[1]))
    assert max(len(issue(report, number)) for number in (0, 1)) < LIMIT_CHARACTERS


def in_environment(cell: CellReport, told: dict[str, JsonValue]) -> CellReport:
    """The cell on a server that says this of its system."""
    assert cell.recording
    assert cell.recording.server
    server = cell.recording.server.model_copy(update={"environment": told})
    return replace(cell, recording=replace(cell.recording, server=server))


def test_the_environment_is_what_the_server_says_of_it() -> None:
    """Its own collect_env, nothing that is unknown; only where it told nothing somebody has to run that."""
    cell = examples.mixed_report().cells[0]
    told: dict[str, JsonValue] = {"os": "Debian <13>", "cpu_info": "a\nb\n", "cudnn_version": None}
    text = issue_md(in_environment(cell, told), RUN, repro=None, script=None)
    assert "```\nos: Debian <13>\ncpu_info:\na\nb\n```" in text
    assert "please add the output" not in text
    assert "please add the output" in issue_md(cell, RUN, repro=None, script=None)
    here = issue_md(cell, RUN, repro=None, script=None, collected="GPU: none")
    assert "and what vLLM says here as" in here
    assert "```\nGPU: none\n```" in here


def test_it_begins_with_the_bug_in_a_few_lines() -> None:
    """Start, ask, sleep, wake, ask again; what came back stands behind both questions."""
    cell = examples.mixed_report().cells[0]
    cell = replace(cell, result=cell.result.model_copy(update={"fault": None}))
    repro = reproduction(cell, DescribedCell())
    assert repro
    text = issue_md(cell, RUN, repro=repro, script="pass")
    begin, _, _ = text.partition("### Your current environment")
    shell = begin.partition("```sh\n")[2].partition("\n```")[0].splitlines()
    assert shell[0].startswith("VLLM_SERVER_DEV_MODE=1 vllm serve ")
    assert shell[1].startswith("ask='{")
    assert "  # is vast in Asia" in shell[2]
    assert shell[3:5] == [
        "curl -s -X POST 'http://127.0.0.1:8000/sleep?level=1'",
        "curl -s -X POST http://127.0.0.1:8000/wake_up",
    ]
    assert "  # isuaryuary" in shell[5]
    assert len(shell) == 6


def test_it_reads_well_before_it_is_rendered() -> None:
    """What was said and what was logged stand in lines as they were, not as one line of entities."""
    text = issue(examples.mixed_report(), 4)
    assert "```\nINFO starting\nMemoryError: cannot allocate 24 GiB\n```" in text
    assert "<pre>" not in text
    ticks = "".join(fenced("````\nx"))
    assert ticks.startswith("`````")


def test_a_failed_cell_shows_the_end_of_the_log() -> None:
    """Without an answer there is no script, but the command of the cell; the log says why."""
    cell = CellReport(
        result=examples.failed_cell(), recording=examples.failed_recording(), reproduce="sleepwake run a"
    )
    text = issue_md(cell, RUN, repro=None, script=None)
    assert "No script reproduces this with vLLM alone: no prompt was ever answered.\n" in text
    assert "The whole cell: sleepwake run a\n" in text
    assert "The last lines of the server's log" in text


def test_a_script_without_the_requests_in_flight_says_so() -> None:
    """What only happens under load may not happen to a prompt that is alone."""
    cell = examples.mixed_report().cells[0]
    assert cell.recording
    start = RequestStarted(t=1, number=1, step="3[1].1", group="load", prompt="india")
    loaded = replace(cell.recording, requests=(InFlight(start=start, running=None, ends=()),))
    said = [
        issue_md(each, RUN, repro=reproduction(each, DescribedCell()), script="pass")
        for each in (cell, replace(cell, recording=loaded))
    ]
    assert ["sent requests beside the transitions" in text for text in said] == [False, True]
