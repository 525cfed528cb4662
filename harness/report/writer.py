"""Where reports become files: the one place in this package that writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.extras import lacks
from harness.history.files import replace_file
from harness.report.junit import junit_xml
from harness.report.model import Report
from harness.report.summary import summary_md
from harness.report.verdict_json import verdict_json

VERDICT_FILE = "verdict.json"
JUNIT_FILE = "junit.xml"
SUMMARY_FILE = "summary.md"
HTML_FILE = "report.html"

_REMEDY = (
    "free disk space or make the directory writable; the history is intact, "
    "`sleepwake report` writes the report from it"
)


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """The files of one report; ``html`` is None where it was not asked for or cannot be drawn here."""

    verdict: Path
    junit: Path
    summary: Path
    html: Path | None

    @property
    def best(self) -> Path:
        """The file a person wants to open."""
        return self.html or self.summary


def write_report(run_directory: Path, report: Report, *, html: bool = True) -> WrittenReport:
    """Write all formats of ``report`` into ``run_directory``, each whole or not at all.

    With ``html`` also ``report.html``, which takes seconds where the others take milliseconds, and the extra
    ``report``.  Without the extra a page of an earlier judgement is removed: it may be outdated.

    Raises:
        StorageError: a file cannot be written.
    """
    return WrittenReport(
        verdict=_write(run_directory / VERDICT_FILE, verdict_json(report.result)),
        junit=_write(run_directory / JUNIT_FILE, junit_xml(report)),
        summary=_write(run_directory / SUMMARY_FILE, summary_md(report)),
        html=_write_page(run_directory / HTML_FILE, report) if html else None,
    )


def _write_page(path: Path, report: Report) -> Path | None:
    if lacks("report"):
        path.unlink(missing_ok=True)
        return None
    # Drawing loads a JavaScript engine and a charting library: only who wants pictures waits for them.
    from harness.report.page import report_html

    return _write(path, report_html(report))


def _write(path: Path, text: str) -> Path:
    return replace_file(path, text, remedy=_REMEDY)
