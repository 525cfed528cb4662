"""Two runs side by side as one HTML file that opens offline."""

from __future__ import annotations

from harness.report.page import page_environment
from harness.report.two_runs import TwoRuns

_LOOKS = {"worse": "corrupt", "better": "clean", "changed": "inconclusive", "same": "clean"}
SYMBOLS = {"worse": "▼", "better": "▲", "changed": "≠", "same": "="}


def two_runs_html(runs: TwoRuns) -> str:
    """Return the page."""
    template = page_environment().get_template("two_runs.html.j2")
    return template.render(runs=runs, tables=runs.tables(), look=_LOOKS[runs.tone], symbols=SYMBOLS)
