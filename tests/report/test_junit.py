"""``junit.xml``."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from syrupy.assertion import SnapshotAssertion

from harness.report.junit import junit_xml
from harness.report.model import Report
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering


def parsed(report: Report) -> ET.Element:
    """The document as a parser sees it."""
    return ET.fromstring(junit_xml(report).encode("utf-8"))  # noqa: S314 - our own document


def test_junit_report(snapshot: SnapshotAssertion) -> None:
    """One cell of every outcome."""
    assert junit_xml(examples.mixed_report()) == snapshot


def test_outcomes_are_what_ci_systems_count() -> None:
    """What is not clean is a failure, what the machine prevented an error, and nothing is skipped."""
    root = parsed(examples.mixed_report())
    problems = {case.get("name", ""): [child.tag for child in case] for case in root.iter("testcase")}
    assert root.attrib | {"time": ""} == {
        "name": "sleepwake",
        "tests": "5",
        "failures": "3",
        "errors": "1",
        "time": "",
    }
    assert problems["small"] == ["error"]
    assert [case.find("failure") is not None for case in root.iter("testcase")] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_suites_add_up() -> None:
    """The counts of the suites add up to those of the document."""
    root = parsed(examples.mixed_report())
    for counted in ("tests", "failures", "errors"):
        assert int(root.get(counted, "")) == sum(int(suite.get(counted, "")) for suite in root)
    assert [suite.get("name") for suite in root] == ["prefix-cache-level1", "prefix-cache-level2", "boot"]


@rendering
@given(ANYTHING)
def test_any_text_is_well_formed(text: str) -> None:
    """Whatever a model answers, the document parses and has the same elements."""
    root = parsed(examples.hostile_report(text))
    assert [element.tag for element in root.iter()] == [
        "testsuites",
        "testsuite",
        "testcase",
        "failure",
        "testsuite",
        "testcase",
        "error",
    ]


def test_a_run_without_cells_is_a_document() -> None:
    """Nothing run is still well-formed."""
    assert parsed(Report(result=examples.result_of(), cells=())).get("tests") == "0"
