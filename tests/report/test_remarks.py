"""What there is to say about a cell besides its verdict and its witness."""

from __future__ import annotations

from harness.report.model import CellReport
from harness.report.remarks import remarks
from tests.report import examples


def test_findings_are_limited_by_checker_and_counted() -> None:
    """A flood of one checker's findings does not hide another's."""
    hint, proof = examples.corrupt_cell().findings
    cell = examples.corrupt_cell().model_copy(update={"findings": (proof,) * 5 + (hint,)})
    said = [text for label, text in remarks(CellReport(result=cell), findings=2) if label == "finding"]
    assert len(said) == 4
    assert said[2] == "divergence: 3 more in verdict.json"
    assert said[3].startswith("repetition (hint)")


def test_the_end_of_the_log_is_what_counts() -> None:
    """Of a dead server's log the last lines are shown."""
    recording = examples.failed_recording(text="\n".join(map(str, range(100))))
    cell = CellReport(result=examples.failed_cell(), recording=recording)
    said = [text for label, text in remarks(cell, log_lines=2) if label == "server's log"]
    assert said == ["98", "99"]


def test_how_speed_was_judged_is_one_line() -> None:
    """Where there is something to tell."""
    cell = examples.clean_cell().model_copy(update={"speed": "sleepwake itself was stopped for 14 s"})
    assert [text for label, text in remarks(CellReport(result=cell)) if label == "speed"] == [
        "sleepwake itself was stopped for 14 s"
    ]
    quiet = examples.clean_cell().model_copy(update={"speed": ""})
    assert "speed" not in {label for label, _ in remarks(CellReport(result=quiet))}
