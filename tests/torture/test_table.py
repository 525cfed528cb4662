"""The table of the torture: what it runs, and what it says of a part that found something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture import __main__ as torture
from tests.torture.part import Budget, Outcome, Part
from tests.torture.parts import PARTS


def _two_of_three(budget: Budget) -> Outcome:
    assert budget.folder.is_dir()
    return Outcome(tried=budget.trials, bad=("one", "another"), told="slow")


def _crashing(_: Budget) -> Outcome:
    raise RuntimeError("the part itself")


def _part(name: str) -> Part:
    run = {"found": _two_of_three, "crashing": _crashing}[name]
    return Part(name=name, about="it holds", run=run, trials=(3, 30), seconds=(1, 10))


@pytest.mark.cell
def test_a_part_that_crashes_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others still run, the table is written, and the end says that something was found."""
    page = tmp_path / "page.md"
    page.write_text("<!-- torture: begin -->\n<!-- torture: end -->\n")
    monkeypatch.setattr(torture, "PARTS", (_part("crashing"), _part("found")))
    assert torture.torture(keep=tmp_path / "kept", into=page) == 1
    assert "RuntimeError: the part itself" in capsys.readouterr().out
    crashing, found = page.read_text().splitlines()[-3:-1]
    assert crashing.startswith("| crashing | it holds | 1 | 1 |")
    assert found.startswith("| found | it holds | 3 | 2 |")
    assert found.endswith("| slow |")


def test_a_part_is_a_line_with_what_it_found() -> None:
    """What is tried and what is bad are counted; minutes try fewer than hours, or as many."""
    row = torture.Row(part=_part("found"), outcome=Outcome(tried=3, bad=("one",), told="slow"), seconds=2.4)
    assert list(torture.table([row]))[-1] == "| found | it holds | 3 | 1 | 2 | slow |"
    assert all(part.trials[0] <= part.trials[1] and part.seconds[0] <= part.seconds[1] for part in PARTS)
