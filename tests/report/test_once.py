"""Every format tells the reason once: what was found, and each thing that speaks for the cause."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from harness.check.verdict import judge
from harness.history.passes import Control
from harness.report.bug_report.issue import issue_md
from harness.report.junit import junit_xml
from harness.report.model import Report, assemble
from harness.report.plain import plain_lines
from harness.report.summary import summary_md
from harness.report.terminal import render_terminal
from tests.check.stories import Story, loop
from tests.report import examples

BECAUSE = (
    "a fresh cache salt heals 2 of 2",
    "resetting the prefix cache heals 2 of 2",
    "unseen prompts are right: 1 of 1",
)


@pytest.fixture(scope="module")
def report() -> Report:
    """Of an engine that kept its prefix cache, with the controls that show it."""
    story = Story(prompts=4)
    damaged = {name: loop(2) for name in story.names[:2]}
    story.baseline().null().sleep(keeps_cache=True).wake().probe(warm=damaged)
    story.control(Control.FRESH_SALT, asked=list(damaged))
    story.control(Control.RESET_PREFIX_CACHE, asked=list(damaged))
    story.control(Control.UNSEEN_PROMPTS)
    recording = story.finish().recording()
    cell = judge(recording)
    assert cell.grounds is not None
    assert set(BECAUSE) <= set(cell.grounds.because)
    return assemble(examples.result_of(cell), recordings={cell.cell: recording})


def _terminal(report: Report) -> str:
    shown = io.StringIO()
    Console(width=160, file=shown).print(render_terminal(report, width=160))
    return shown.getvalue()


FORMATS: dict[str, Callable[[Report], str]] = {
    "plain": lambda report: "\n".join(plain_lines(report)),
    "terminal": _terminal,
    "summary": summary_md,
    "junit": junit_xml,
    "issue": lambda report: issue_md(report.cells[0], report.run, repro=None, script=None),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_observation_stands_there_once(name: str, report: Report) -> None:
    """A control that speaks for the cause is not listed again, in other words, among the controls."""
    told = FORMATS[name](report)
    for sentence in BECAUSE:
        assert told.count(sentence) == 1, told
    assert "2 of 2 as in the baseline" not in told


def test_a_control_that_decided_nothing_is_listed(report: Report) -> None:
    """As the base model is here, which was asked besides."""
    cell = report.cells[0]
    asked = cell.result.controls[0].model_copy(update={"control": Control.BASE_MODEL})
    result = cell.result.model_copy(update={"controls": (*cell.result.controls, asked)})
    told = "\n".join(plain_lines(assemble(examples.result_of(result), recordings={})))
    assert "control:       same prompts, asked of the base model: 2 of 2 as in the baseline" in told
