"""Every judged answer beside its baseline."""

from __future__ import annotations

import pytest

from harness.check.evidence import Evidence
from harness.report.changes import agreements, changes, shapes, spreads
from tests.report import examples


@pytest.fixture
def evidence() -> Evidence:
    """A cell in which two prompts changed in the warm passes of both cycles."""
    return Evidence(examples.recording(stuck=("india", "rivers")))


def test_changes_are_the_differing_answers_earliest_first(evidence: Evidence) -> None:
    """An answer that came in both cycles is told once, with where it parts and how it ended."""
    india, rivers = changes(evidence)
    assert (india.prompt, india.first_difference) == ("india", 0)
    assert (rivers.prompt, rivers.first_difference) == ("rivers", 1)
    assert rivers.occasions == ("cycle 1, warm", "cycle 2, warm")
    assert (rivers.baseline_finish, rivers.after_finish) == ("stop", "length")


def test_a_clean_cell_has_no_changes() -> None:
    """Equal answers are not told one by one."""
    assert changes(Evidence(examples.recording())) == []


def test_agreements_cover_null_transitions_and_cycles(evidence: Evidence) -> None:
    """Every prompt has a field in every pass that was compared, equal or not."""
    fields = agreements(evidence)
    assert len(fields) == 4 * 6
    assert [field.pass_number for field in fields] == sorted(field.pass_number for field in fields)
    assert {field.share for field in fields if field.first_difference is None} == {1.0}


def test_shapes_tell_loops_from_prose(evidence: Evidence) -> None:
    """A stuck answer repeats nearly all of its 4-grams, its baseline few."""
    india = [shape for shape in shapes(evidence) if shape.prompt == "india"]
    assert [shape.repeated for shape in india if shape.side == "baseline"] == [0.0]
    assert sorted(shape.repeated > 0.9 for shape in india if shape.side == "after") == [False, True]


def test_spread_sets_noise_beside_signal(evidence: Evidence) -> None:
    """Nothing differs when nothing happened; four answers do afterwards."""
    noise, signal = spreads(evidence)
    assert (noise.compared, noise.different) == (8, 0)
    assert (signal.compared, signal.different) == (16, 4)
    assert signal.largest_gap == pytest.approx(5.896, abs=1e-3)
