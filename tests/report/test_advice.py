"""What to do next: one line for every verdict."""

from __future__ import annotations

import pytest

from harness.check.result import Cause, CellResult, ControlOutcome, Grounds, Lack
from harness.history.run_description import RunDescription
from harness.report.advice import advice
from harness.report.model import Report, assemble
from tests.report import examples
from tests.report.browser.runs import STORIES


def of(*cells: CellResult, **changes: object) -> Report:
    """A run of these cells, each changed alike."""
    return assemble(examples.result_of(*(cell.model_copy(update=changes) for cell in cells)), {})


def test_the_worst_cell_is_what_to_look_at() -> None:
    """However many cells are inconclusive, what is corrupt comes first."""
    told = advice(of(examples.inconclusive_cell(), examples.corrupt_cell(), fault=None))
    assert "meanwhile serve with --no-enable-prefix-caching" in told.sentence
    assert told.command.endswith("--cell prefix-cache-level1.prefix-cache-on")


def test_what_was_seen_to_heal_is_offered() -> None:
    """A reset of the prefix cache is advised only where the control shows that it helps."""
    helped = ControlOutcome(control="reset_prefix_cache", asked=2, healed=2)
    cell = examples.corrupt_cell()
    assert "call /reset_prefix_cache" in advice(of(cell, fault=None, controls=(helped,))).sentence
    failed = helped.model_copy(update={"healed": 1})
    assert "/reset_prefix_cache" not in advice(of(cell, fault=None, controls=(failed,))).sentence


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_line(cause: Cause) -> None:
    """Whatever is found, a corrupt and a degraded run say what an operator does until it is mended."""
    assert "meanwhile" in advice(of(examples.corrupt_cell(), fault=None, cause=cause)).sentence
    assert advice(of(examples.degraded_cell(), cause=cause)).sentence.startswith("Answers hold; ")


@pytest.mark.parametrize("lack", Lack)
def test_every_doubt_has_a_line(lack: Lack) -> None:
    """An inconclusive run says what settles it, and most often with which command."""
    grounds = Grounds(what="it cannot be told", lacks=(lack,))
    told = advice(of(examples.inconclusive_cell(), grounds=grounds))
    assert told.sentence.endswith(".")
    assert bool(told.command) is (lack not in {Lack.RELEASE, Lack.CRASH})


def test_a_server_that_runs_already_is_asked_more() -> None:
    """It has the flags that it was started with: no option of ours makes it compute otherwise."""
    grounds = Grounds(what="it cannot be told", lacks=(Lack.NOISE,))
    ours = advice(of(examples.inconclusive_cell(), grounds=grounds))
    theirs = advice(of(examples.inconclusive_cell(), grounds=grounds, runtime="attached"))
    assert "--dtype=float32" in ours.command
    assert "float32" not in theirs.command
    assert "more prompts" in theirs.sentence


def test_a_planted_fault_is_nobodys_mistake() -> None:
    """Who planted a corruption need not report it to vLLM."""
    told = advice(of(examples.corrupt_cell()))
    assert told.sentence.startswith("Nothing to mend: keep-prefix-cache was planted")


def test_a_clean_run_is_worth_keeping() -> None:
    """With real parts it can be pinned; where parts were emulated, the real ones are still to be tried."""
    assert advice(of(examples.clean_cell(), emulated=())).command == "sleepwake pin 2026-11-22T10-00-00"
    assert "Run it once more where you serve" in advice(of(examples.clean_cell())).sentence
    attached = advice(of(examples.clean_cell(), emulated=("unknown (attached)",)))
    assert attached.command.startswith("sleepwake pin")


def test_what_stopped_a_run_is_told_apart() -> None:
    """A user who pressed Ctrl-C is not told that the machine got in the way; both are told how to go on."""
    for story, begins in (("interrupted", "Nothing is known to be wrong"), ("error", "The machine got in")):
        recording = STORIES[story]().recording()
        result = STORIES[story]().judged()
        run = RunDescription(run="r", cells={}, interrupted=story == "interrupted")
        report = assemble(examples.result_of(result), {result.cell: recording}, run=run)
        assert report.cells[0].outcome == story
        told = advice(report)
        assert told.sentence.startswith(begins)
        assert told.command == "sleepwake run --resume 2026-11-22T10-00-00"
