"""``junit.xml``: one suite a scenario, one case a cell, as GitHub, GitLab and Jenkins read it.

What is corrupt or degraded is a failure and what the machine prevented an error.
Inconclusive is a failure too, of its own type: skipped cases pass as green everywhere,
and a cell about which nothing can be said must not.

There is no one schema.  The document is valid under the two that are in use, Jenkins'
``junit-10.xsd`` and Ant's ``JUnit.xsd``: hence the host that is always called localhost,
and what is said about clean cells in their suite's output instead of their own.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import JsonValue

from harness.report.model import CellReport, Report
from harness.report.plain import cell_lines
from harness.report.text import one_line
from harness.report.words import what_was_found

_NO_VERDICT = frozenset({"error", "interrupted"})


def junit_xml(report: Report) -> str:
    """Return the document, with an XML declaration."""
    root = ET.Element("testsuites")
    for number, scenario in enumerate(dict.fromkeys(cell.result.scenario for cell in report.cells)):
        cells = [cell for cell in report.cells if cell.result.scenario == scenario]
        root.append(_suite(scenario, cells, number=number, run_started=report.run.started_at))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(scenario: str, cells: Sequence[CellReport], *, number: int, run_started: JsonValue) -> ET.Element:
    outcomes = [cell.outcome for cell in cells]
    errors = sum(outcome in _NO_VERDICT for outcome in outcomes)
    attributes = {
        "name": one_line(scenario),
        "package": "sleepwake",
        "id": str(number),
        "hostname": "localhost",
        "tests": str(len(outcomes)),
        "failures": str(len(outcomes) - errors - outcomes.count("clean")),
        "errors": str(errors),
        "skipped": "0",
        "time": _time(sum(cell.seconds for cell in cells)),
    }
    started = min((cell.recording.cell.started_at for cell in cells if cell.recording), default=run_started)
    if isinstance(started, str):
        # The schema's timestamps have neither offset nor fraction.
        attributes["timestamp"] = f"{datetime.fromisoformat(started):%Y-%m-%dT%H:%M:%S}"
    suite = ET.Element("testsuite", attributes)
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(cells):
        ET.SubElement(properties, "property", {"name": name, "value": one_line(value)})
    suite.extend(_case(cell) for cell in cells)
    clean = ["\n".join(cell_lines(cell)) for cell in cells if cell.outcome == "clean"]
    ET.SubElement(suite, "system-out").text = "\n\n".join(clean)
    ET.SubElement(suite, "system-err")
    return suite


def _properties(cells: Sequence[CellReport]) -> Iterator[tuple[str, str]]:
    results = [cell.result for cell in cells]
    told: dict[str, list[str | None]] = {
        "vllm": [result.vllm_version for result in results],
        "runtime": [result.runtime for result in results],
        "emulated": [name for result in results for name in result.emulated],
        "planted fault": [result.fault for result in results],
    }
    for name, values in told.items():
        for value in dict.fromkeys(filter(None, values)):
            yield name, value


def _time(seconds: float) -> str:
    return f"{seconds:.3f}"


def _case(cell: CellReport) -> ET.Element:
    attributes = {
        "classname": one_line(cell.result.scenario),
        "name": one_line(cell.result.arm),
        "time": _time(cell.seconds),
    }
    case = ET.Element("testcase", attributes)
    if cell.outcome != "clean":
        problem = ET.SubElement(case, "error" if cell.outcome in _NO_VERDICT else "failure")
        problem.set("type", cell.outcome)
        problem.set("message", one_line(what_was_found(cell)))
        problem.text = "\n".join(cell_lines(cell))
    return case
