"""How a command that has made a run ends: with its verdict, on disk and on the screen."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from harness.cli.shared import print_lines
from harness.report import show_report, write_report
from harness.report.github import append_summary, commands_stopped, on_github, workflow_commands
from harness.runs.judging import judge_directory


def conclude(directory: Path, console: Console) -> int:
    """Judge a run, write its reports and show them; return its exit code."""
    judged = judge_directory(directory)
    written = write_report(directory, judged.report)
    if on_github():
        append_summary(judged.report)
        print_lines(workflow_commands(judged.report))
    with commands_stopped() if on_github() else nullcontext():
        show_report(judged.report, console, written=written)
    return judged.result.exit_code
