"""``junit.xml``: one suite a scenario, one case a cell, as GitHub, GitLab and Jenkins read it.

What is corrupt or degraded is a failure and what the machine prevented an error.
Inconclusive is a failure too, of its own type: skipped cases pass as green everywhere,
and a cell about which nothing can be said must not.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime

from harness.report.model import CellReport, Report
from harness.report.plain import cell_lines
from harness.report.text import one_line


def junit_xml(report: Report) -> str:
    """Return the document, with an XML declaration."""
    root = ET.Element("testsuites", {"name": "sleepwake", **_counts(report.cells)})
    for scenario in dict.fromkeys(cell.result.scenario for cell in report.cells):
        _add_suite(root, scenario, [cell for cell in report.cells if cell.result.scenario == scenario])
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(cells: Sequence[CellReport]) -> dict[str, str]:
    outcomes = [cell.outcome for cell in cells]
    errors = outcomes.count("error")
    return {
        "tests": str(len(outcomes)),
        "failures": str(len(outcomes) - errors - outcomes.count("clean")),
        "errors": str(errors),
        "time": _time(sum(cell.seconds for cell in cells)),
    }


def _time(seconds: float) -> str:
    return f"{seconds:.3f}"


def _add_suite(root: ET.Element, scenario: str, cells: Sequence[CellReport]) -> None:
    suite = ET.SubElement(root, "testsuite", {"name": one_line(scenario), **_counts(cells), "skipped": "0"})
    started = [cell.recording.cell.started_at for cell in cells if cell.recording]
    if started:
        suite.set("timestamp", _without_offset(min(started)))
    for cell in cells:
        _add_case(suite, cell)


def _without_offset(moment: str) -> str:
    """The schema's timestamps have neither offset nor fraction."""
    return datetime.fromisoformat(moment).strftime("%Y-%m-%dT%H:%M:%S")


def _add_case(suite: ET.Element, cell: CellReport) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": one_line(cell.result.scenario),
            "name": one_line(cell.result.arm),
            "time": _time(cell.seconds),
        },
    )
    text = "\n".join(cell_lines(cell))
    if cell.outcome == "clean":
        ET.SubElement(case, "system-out").text = text
        return
    problem = ET.SubElement(case, "error" if cell.outcome == "error" else "failure")
    problem.set("type", cell.outcome)
    problem.set("message", one_line(_message(cell)))
    problem.text = text


def _message(cell: CellReport) -> str:
    result = cell.result
    return f"{result.cause.value}: {result.reason}" if result.cause else result.reason
