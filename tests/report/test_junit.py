"""``junit.xml``."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import xmlschema
from hypothesis import given
from syrupy.assertion import SnapshotAssertion

from harness.history.run_description import RunDescription
from harness.report.junit import junit_xml
from harness.report.model import Report, assemble
from tests.report import examples
from tests.report.test_text import ANYTHING, rendering

WORDS, TEXT = r"\S(?:[^\n\t]*\S)?", r"(?s).*"
WHOLE, DECIMAL = r"\d+", r"\d+(?:\.\d+)?"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


@dataclass(frozen=True, kw_only=True)
class Element:
    """What a schema says of one element: its children in order, and its attributes."""

    children: str = ""
    """A regular expression over the children's names, each followed by a space."""
    required: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)


ANT = {
    "testsuites": Element(children=r"(testsuite )*"),
    "testsuite": Element(
        children=r"properties (testcase )*system-out system-err ",
        required={
            "name": WORDS,
            "timestamp": MOMENT,
            "hostname": WORDS,
            "tests": WHOLE,
            "failures": WHOLE,
            "errors": WHOLE,
            "time": DECIMAL,
            "package": WORDS,
            "id": WHOLE,
        },
        optional={"skipped": WHOLE},
    ),
    "properties": Element(children=r"(property )*"),
    "property": Element(required={"name": WORDS, "value": TEXT}),
    "testcase": Element(
        children=r"(skipped |error |failure )?", required={"name": WORDS, "classname": WORDS, "time": DECIMAL}
    ),
    "error": Element(required={"type": TEXT}, optional={"message": TEXT}),
    "failure": Element(required={"type": TEXT}, optional={"message": TEXT}),
    "system-out": Element(),
    "system-err": Element(),
}
"""The rules of Ant's JUnit.xsd, the stricter of the two in use."""

JENKINS = xmlschema.XMLSchema(Path(__file__).with_name("junit-10.xsd"))
"""The schema of Jenkins' xunit plugin, under the MIT licence, as pytest's own tests carry it."""


def offences(element: ET.Element) -> Iterator[str]:
    """Everything in a document that the schema forbids."""
    rule = ANT.get(element.tag)
    if rule is None:
        yield f"<{element.tag}> is not known"
        return
    children = "".join(f"{child.tag} " for child in element)
    if not re.fullmatch(rule.children, children):
        yield f"<{element.tag}> holds {children}"
    yield from (f"<{element.tag}> lacks {name}" for name in rule.required.keys() - element.attrib.keys())
    for name, value in element.attrib.items():
        pattern = {**rule.required, **rule.optional}.get(name)
        if pattern is None or not re.fullmatch(pattern, value):
            yield f"<{element.tag} {name}={value!r}>"
    for child in element:
        yield from offences(child)


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
    (suite,) = parsed(assemble(result, {}, run=STARTED))
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


STARTED = RunDescription(run="r", started_at="2026-11-22T09:00:00+00:00", cells={})


@pytest.mark.parametrize(
    "report",
    [
        examples.mixed_report(),
        examples.clean_report(),
        examples.hostile_report(),
        assemble(examples.result_of(examples.clean_cell(), examples.failed_cell()), {}, run=STARTED),
        Report(result=examples.result_of(), cells=()),
    ],
    ids=["mixed", "clean", "hostile", "never recorded", "empty"],
)
def test_the_document_is_valid(report: Report) -> None:
    """A validator accepts it under Jenkins' schema, and it keeps the stricter rules of Ant's."""
    assert [error.reason for error in JENKINS.iter_errors(junit_xml(report))] == []
    assert list(offences(parsed(report))) == []


@pytest.mark.parametrize(
    ("change", "offence"),
    [
        (('tests="2"', 'tests="two"'), "<testsuite tests='two'>"),
        (("<system-err />", ""), "<testsuite> holds"),
        (('hostname="localhost"', ""), "<testsuite> lacks hostname"),
        (("<properties>", "<surprise /><properties>"), "<surprise> is not known"),
    ],
)
def test_the_rules_notice_what_breaks_them(change: tuple[str, str], offence: str) -> None:
    """The check above can fail."""
    document = junit_xml(examples.mixed_report()).replace(*change)
    found = list(offences(ET.fromstring(document.encode())))  # noqa: S314 - our own document
    assert any(each.startswith(offence) for each in found), found


@pytest.mark.parametrize(
    "change",
    [
        (' tests="2"', ""),
        ('time="', 'time="about '),
        ("<properties>", "<surprise /><properties>"),
    ],
    ids=["missing", "wrong", "unknown"],
)
def test_the_validator_notices_what_is_wrong(change: tuple[str, str]) -> None:
    """A missing attribute, a wrong value and an unknown element: the check above can fail."""
    assert not JENKINS.is_valid(junit_xml(examples.mixed_report()).replace(*change))
