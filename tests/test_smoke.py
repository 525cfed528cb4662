"""The shortest look that comes to a verdict."""

from __future__ import annotations

from harness.runs.options import RunOptions
from harness.scenario.script import Repeat
from harness.workflow import load


def test_smoke_is_one_default_cell_with_one_cycle() -> None:
    """One server, one sleep: a run without a path takes the same look before it looks closer."""
    [cell] = load(RunOptions(smoke=True))
    assert cell.id == load(RunOptions())[0].id
    assert not any(isinstance(step, Repeat) for step in cell.scenario.script)
