"""The report in a terminal."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from harness.report.model import Report
from harness.report.terminal import show_report
from harness.report.writer import WrittenReport
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering, shows_itself

WRITTEN = WrittenReport(
    verdict=Path("run/verdict.json"),
    junit=Path("run/junit.xml"),
    summary=Path("run/summary.md"),
    html=Path("run/report.html"),
)


def shown(report: Report, *, terminal: bool = True, width: int = 100, **console: bool) -> str:
    """What ``show_report`` prints; without colour unless asked for."""
    options = {"no_color": True, "color_system": None} | console
    file = io.StringIO()
    show_report(
        report,
        Console(
            file=file,
            force_terminal=terminal,
            width=width,
            highlight=False,
            no_color=options["no_color"] is True,
            color_system="truecolor" if options["color_system"] else None,
            _environ={"TERM": "xterm-256color"},
        ),
        written=WRITTEN,
    )
    return file.getvalue()


@pytest.fixture(params=["mixed", "clean", "hostile"])
def report(request: pytest.FixtureRequest) -> Report:
    """Each of the example runs."""
    reports = {
        "mixed": examples.mixed_report,
        "clean": examples.clean_report,
        "hostile": examples.hostile_report,
    }
    return reports[request.param]()


@pytest.mark.parametrize("width", [50, 80, 140])
def test_terminal_report(report: Report, width: int, snapshot: SnapshotAssertion) -> None:
    """Narrow, usual and wide terminals."""
    assert shown(report, width=width) == snapshot


def test_colours_and_styles(snapshot: SnapshotAssertion) -> None:
    """What colour adds where there is colour."""
    assert shown(examples.mixed_report(), no_color=False, color_system=True) == snapshot


def test_off_a_terminal_there_are_plain_lines(report: Report) -> None:
    """A log has no escape codes, no box drawing and lines as long as they are."""
    text = shown(report, terminal=False, width=40)
    assert "\x1b" not in text
    assert not set(text) & set("─│┌┐└┘━┃╭╮╰╯")
    assert max(map(len, text.splitlines())) > 80


@pytest.mark.parametrize("terminal", [True, False])
def test_the_last_line_names_the_report(report: Report, terminal: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whatever was found, one can click on the last line."""
    assert shown(report, terminal=terminal).splitlines()[-1] == "report: run/report.html"


@rendering
@given(ANYTHING)
def test_answers_never_reach_the_terminal_as_controls(text: str) -> None:
    """Whatever a model answers, only printable characters and line breaks are printed."""
    printed = shown(examples.hostile_report(text), color_system=False)
    assert shows_itself(printed)


def test_markup_in_answers_is_text() -> None:
    """``[bold red]`` in an answer is shown, not obeyed."""
    assert "[bold red]b[/]" in shown(examples.hostile_report(), width=400)


def test_long_answers_are_shortened_and_say_so() -> None:
    """A hundred thousand characters of one line do not flood the screen."""
    printed = shown(examples.hostile_report("x" * 100_000))
    assert len(printed) < 20_000
    assert "more characters" in printed


def test_commands_can_be_copied_in_one_piece() -> None:
    """A command is one line for the terminal to wrap, even where the terminal is narrower."""
    command = examples.mixed_report().cells[0].reproduce
    assert command in shown(examples.mixed_report(), width=60)


def test_a_stream_that_cannot_encode_the_answer_still_gets_the_report() -> None:
    """Under an ASCII locale characters of other scripts are written as escapes, not as an error."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    show_report(examples.hostile_report("गंगा"), Console(file=stream, force_terminal=True, highlight=False))
    stream.flush()
    assert b"\\u0917" in raw.getvalue()


def test_without_a_page_the_summary_is_named() -> None:
    """Where only the quick formats were written, the last line names the one people read."""
    assert dataclasses.replace(WRITTEN, html=None).best == Path("run/summary.md")


def test_no_color_is_obeyed() -> None:
    """With NO_COLOR in the environment a terminal gets no colour; words and signs tell what colours would."""
    file = io.StringIO()
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    console = Console(file=file, force_terminal=True, width=100, highlight=False, _environ=environment)
    show_report(examples.mixed_report(), console)
    styles = set(re.findall(r"\x1b\[([\d;]*)m", file.getvalue()))
    assert not {code for style in styles for code in style.split(";")} - {"", "0", "1", "2", "3", "4"}
    assert "✗ corrupt" in re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())
