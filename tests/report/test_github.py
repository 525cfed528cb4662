"""Annotations and the summary of a GitHub Actions job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from harness.history.run_description import DescribedCell, RunDescription
from harness.report.github import (
    SUMMARY_LIMIT_BYTES,
    append_summary,
    commands_stopped,
    on_github,
    workflow_commands,
)
from harness.report.summary import summary_md
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering, shows_itself


def test_every_cell_that_is_not_clean_is_annotated() -> None:
    """Failures as errors, doubts and trouble as warnings, clean cells not at all."""
    kinds = [line.split(" ", 1)[0] for line in workflow_commands(examples.mixed_report())]
    assert kinds == ["::error", "::error", "::warning", "::warning"]


def test_an_annotation_names_file_cell_and_cause() -> None:
    """Colons and commas of values are escaped, as GitHub asks."""
    report = examples.mixed_report()
    name = "prefix-cache-level1.prefix-cache-on"
    run = RunDescription(run="r", cells={name: DescribedCell(scenario_file="scenarios/a,b.yaml")})
    (first, *_) = workflow_commands(replace(report, run=run))
    title = "prefix-cache-level1 / prefix-cache-on%3A corrupt (stale prefix cache)"
    assert first.startswith(f"::error title={title},file=scenarios/a%2Cb.yaml::")
    shipped = RunDescription(run="r", cells={name: DescribedCell(scenario_file="prefix-cache-level1")})
    (first, *_) = workflow_commands(replace(report, run=shipped))
    assert first.startswith(f"::error title={title}::")  # one that ships is no file of the user's


@rendering
@given(ANYTHING)
def test_no_answer_becomes_a_command(text: str) -> None:
    """Whatever a reason says, an annotation is one harmless line."""
    for line in workflow_commands(examples.hostile_report(f"{text}\n::error::x%0A")):
        assert shows_itself(line)
        assert "\n" not in line
        assert "%0A" not in line


def test_the_summary_is_appended(tmp_path: Path) -> None:
    """What earlier steps wrote stays; without a file, or elsewhere, nothing is written."""
    report, summary = examples.mixed_report(), tmp_path / "summary"
    summary.write_text("before\n")
    assert append_summary(report, {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text() == f"before\n{summary_md(report)}"
    assert not append_summary(report, {})


def test_a_summary_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    """GitHub would refuse the whole of it, with what is there already."""
    summary = tmp_path / "summary"
    summary.write_bytes(b"x" * (SUMMARY_LIMIT_BYTES - 100))
    assert not append_summary(examples.mixed_report(), {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.stat().st_size == SUMMARY_LIMIT_BYTES - 100


def test_commands_are_stopped_while_answers_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """GitHub obeys nothing between the two lines, and only whoever knows the token can end it."""
    with commands_stopped():
        print("::error::planted")  # noqa: T201 - what is printed is the point
    first, planted, last = capsys.readouterr().out.splitlines()
    token = first.removeprefix("::stop-commands::")
    assert len(token) == 32
    assert (planted, last) == ("::error::planted", f"::{token}::")


def test_elsewhere_it_is_not_github() -> None:
    """Only a job says so."""
    assert on_github({"GITHUB_ACTIONS": "true"})
    assert not on_github({})
