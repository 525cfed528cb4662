"""What a GitHub Actions job gets besides the log: annotations, and the summary on the job's page."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.history.files import storing
from harness.report.model import CellReport, Report
from harness.report.summary import summary_md
from harness.report.text import one_line, shorten
from harness.report.words import outcome_of

SUMMARY_LIMIT_BYTES = 1024 * 1024
"""GitHub refuses a step's summary beyond it."""

_LEVELS = {
    "corrupt": "error",
    "degraded": "error",
    "error": "warning",
    "inconclusive": "warning",
    "interrupted": "warning",
}
_MESSAGE_SHOWN = 1_000


def on_github(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a job of GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


@contextmanager
def commands_stopped() -> Iterator[None]:
    """Keep GitHub from obeying what is printed meanwhile: answers of a model may hold ``::commands::``."""
    token = secrets.token_hex(16)
    sys.stdout.write(f"::stop-commands::{token}\n")
    sys.stdout.flush()
    try:
        yield
    finally:
        sys.stdout.write(f"::{token}::\n")
        sys.stdout.flush()


def workflow_commands(report: Report) -> Iterator[str]:
    """Yield one annotation for every cell that is not clean, at its scenario's file."""
    for cell in report.cells:
        if cell.outcome in _LEVELS:
            described = report.run.cells.get(cell.result.cell)
            yield _annotation(cell, file=_file_of(described.scenario_file) if described else None)


def _file_of(asked: str) -> str | None:
    """The scenario's file, where it is one of the user's; one that ships is named without a path."""
    return asked if asked.endswith((".yaml", ".yml")) else None


def _annotation(cell: CellReport, *, file: str | None) -> str:
    properties = {"title": f"{cell.title}: {outcome_of(cell)}", "file": file}
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    message = _data(shorten(one_line(cell.result.reason), limit=_MESSAGE_SHOWN))
    return f"::{_LEVELS[cell.outcome]} {told}::{message}"


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def append_summary(report: Report, environ: Mapping[str, str] = os.environ) -> bool:
    """Append the Markdown summary to the job's, where there is one and it fits; return whether it was.

    Raises:
        StorageError: the job's summary cannot be written.
    """
    name = environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return False
    path, text = Path(name), summary_md(report)
    with storing(path, cannot="write the job's summary"):
        present = path.stat().st_size if path.exists() else 0
        if present + len(text.encode()) > SUMMARY_LIMIT_BYTES:
            return False
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    return True
