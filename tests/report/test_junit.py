"""``junit.xml``."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from syrupy.assertion import SnapshotAssertion

from harness.report.junit import junit_xml
from harness.report.model import Report, assemble
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
    problems = {
        f"{case.get('classname')}/{case.get('name')}": [child.tag for child in case]
        for case in parsed(examples.mixed_report()).iter("testcase")
    }
    assert problems == {
        "prefix-cache-level1/prefix-cache-on": ["failure"],
        "prefix-cache-level1/prefix-cache-off": [],
        "prefix-cache-level2/prefix-cache-on": ["failure"],
        "prefix-cache-level2/prefix-cache-off": ["failure"],
        "boot/small": ["error"],
    }


def test_inconclusive_is_told_apart_from_corrupt() -> None:
    """A failure's type is the verdict."""
    types = [failure.get("type") for failure in parsed(examples.mixed_report()).iter("failure")]
    assert types == ["corrupt", "degraded", "inconclusive"]


def test_counts_are_those_of_the_cases() -> None:
    """Every suite counts its own cases, and says how its engine was run."""
    counts = [
        {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")}
        for suite in parsed(examples.mixed_report())
    ]
    assert counts == [
        {"name": "prefix-cache-level1", "tests": "2", "failures": "1", "errors": "0", "skipped": "0"},
        {"name": "prefix-cache-level2", "tests": "2", "failures": "2", "errors": "0", "skipped": "0"},
        {"name": "boot", "tests": "1", "failures": "0", "errors": "1", "skipped": "0"},
    ]


def test_suites_know_when_they_ran() -> None:
    """A scenario none of whose cells was ever started has the start of the run."""
    result = examples.result_of(examples.clean_cell())
    (suite,) = parsed(assemble(result, {}, run={"started_at": "2026-11-22T09:00:00+00:00"}))
    assert suite.get("timestamp") == "2026-11-22T09:00:00"


def test_elements_stand_in_the_order_of_the_schemas() -> None:
    """Properties, cases, output, errors: Ant's schema allows no other order."""
    for suite in parsed(examples.mixed_report()):
        tags = [child.tag for child in suite if child.tag != "testcase"]
        assert tags == ["properties", "system-out", "system-err"]
        assert suite[0].tag == "properties"


@rendering
@given(ANYTHING)
def test_any_text_is_well_formed(text: str) -> None:
    """Whatever a model answers, the document parses and has the elements of a harmless one."""
    hostile, harmless = parsed(examples.hostile_report(text)), parsed(examples.hostile_report("a"))
    assert [element.tag for element in hostile.iter()] == [element.tag for element in harmless.iter()]


def test_a_run_without_cells_is_a_document() -> None:
    """Nothing run is still well-formed."""
    assert list(parsed(Report(result=examples.result_of(), cells=()))) == []
