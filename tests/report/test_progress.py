"""What a person sees while a run goes on."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console

from harness.history.events import Event
from harness.report.progress import Progress
from tests.report import examples

RECORDING = examples.recording()
PASS = RECORDING.passes[0]


def shown(events: Iterable[tuple[str, Event]], *, terminal: bool, interleaved: bool = False) -> str:
    """What is printed of events, each of the cell named beside it."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=200, highlight=False)
    with Progress(console, cells=2) as progress:
        if interleaved:
            progress.cells_interleave()
        for cell, event in events:
            progress.show(cell, event)
    return screen.getvalue()


def test_a_terminal_tells_how_far_a_pass_has_come() -> None:
    """Passes take minutes on slow engines: the live line counts the answers."""
    first, second, *_ = PASS.answers.values()
    told = shown([("a", PASS.start), ("a", first), ("a", second)], terminal=True)
    assert f"baseline, warm, 2 of {len(PASS.start.asked)} answers" in told


def test_cells_that_interleave_count_for_themselves() -> None:
    """An answer of one cell is none of another's."""
    first, second, *_ = PASS.answers.values()
    events: list[tuple[str, Event]] = [("a", PASS.start), ("a", first), ("b", PASS.start), ("b", second)]
    assert f"1 of {len(PASS.start.asked)} answers" in shown(events, terminal=True, interleaved=True)


def test_a_log_has_a_line_a_step() -> None:
    """Cells are numbered, and what goes on within a step is not told where no line can be taken back."""
    assert RECORDING.server
    step = RECORDING.steps[0]
    events: list[Event] = [RECORDING.cell, RECORDING.server, step, PASS.start, *PASS.answers.values()]
    events.append(RECORDING.step_ends[step.step])
    lines = shown([("a", event) for event in events], terminal=False).splitlines()
    assert lines == [
        "[1/2] a",
        "     30.0 s  vLLM 0.32.0 is ready on process after 29 s",
        "     31.0 s  probe baseline  0.0 s",
    ]
