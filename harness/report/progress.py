"""What a person sees while a run goes on: the history as it is written, one line a step.

On a terminal the current step is a live line below the finished ones; elsewhere every
step is one plain line with its time, so that a log reads like a story.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from harness.check.result import CellResult
from harness.check.wording import describe, manner, overlaps, set_options
from harness.history.events import (
    CellFailed,
    CellShortened,
    CellStarted,
    Event,
    HarnessStopped,
    ServerLeftDamaged,
    ServerReady,
)
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import Answer, PassStarted
from harness.report.model import CellReport
from harness.report.text import count, one_line
from harness.report.words import outcome_of, what_was_found

STYLES = {"clean": "green", "corrupt": "bold red", "degraded": "yellow", "inconclusive": "magenta"}
_MIB = 1024 * 1024


@dataclass
class _Asking:
    """A pass that goes on: what is asked, and how far it has come."""

    words: str
    asked: int
    answered: int = 0

    def answered_one(self) -> str:
        """Count one more answer, and say how many there are."""
        self.answered += 1
        return f"{self.words}, {self.answered} of {self.asked} answers"


class Progress:
    """Shows events as they are recorded.  Use as a context manager around a run."""

    def __init__(self, console: Console, *, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._numbers: dict[str, int] = {}
        self._interleaved = False
        self._cell = ""
        self._steps: dict[str, str] = {}
        self._asking: dict[str, _Asking] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, sentence: str) -> None:
        """Print something that is not an event."""
        self._console.print(Text(one_line(sentence)), soft_wrap=True)

    def expect(self, cells: int) -> None:
        """So many cells will run, after all."""
        self._cells = cells

    def cells_interleave(self) -> None:
        """Several cells run at a time: every line says whose it is."""
        self._interleaved = True

    def show(self, cell: str, event: Event) -> None:
        """Show one event of ``cell``."""
        self._cell = cell
        match event:
            case CellStarted():
                number = self._numbers.setdefault(cell, len(self._numbers) + 1)
                self._console.print(Text(f"[{number}/{self._cells}] {cell}", style="bold"))
                self._now("starting the server")
            case ServerReady():
                self._line(event.t, _server(event))
            case StepStarted():
                self._steps[cell] = _words(event)
                self._now(self._steps[cell])
            case PassStarted():
                what = event.control.value.replace("_", " ") if event.control else manner(event)
                words = f"{self._steps.get(cell, '')}: {event.role.value}, {what}"
                self._asking[cell] = _Asking(words=words, asked=len(event.asked))
                self._now(words)
            case Answer() if cell in self._asking:
                self._now(self._asking[cell].answered_one())
            case StepFinished():
                contradicted = f"  !! {'; '.join(event.unconfirmed)}" if event.unconfirmed else ""
                self._line(event.t, f"{self._steps.get(cell, '')}  {event.seconds:.1f} s{contradicted}")
            case CellShortened() | ServerLeftDamaged() | HarnessStopped() | CellFailed():
                self._line(event.t, _remark(cell, event))
            case _:
                pass

    def conclude(self, result: CellResult) -> None:
        """Show the verdict of the cell that has just ended."""
        cell = CellReport(result=result)
        text = Text(f"  {result.cell} => " if self._interleaved else "  => ")
        text.append(outcome_of(cell), style=STYLES.get(cell.outcome, "bold"))
        # What speaks for it stands in the report, which follows when all cells have ended.
        text.append(f": {one_line(what_was_found(cell))}")
        self._console.print(text, soft_wrap=True)

    def _line(self, t: float, text: str) -> None:
        whose = f"{self._cell}: " if self._interleaved else ""
        self._console.print(Text(f"  {t:7.1f} s  {whose}{one_line(text)}"), soft_wrap=True)

    def _now(self, text: str) -> None:
        if self._live is not None:
            self._live.update(Spinner("dots", Text(f"  {self._cell}: {one_line(text)}", style="dim")))


def _remark(cell: str, event: CellShortened | ServerLeftDamaged | HarnessStopped | CellFailed) -> str:
    match event:
        case CellShortened():
            return f"leaves out {count(len(event.skipped), 'step')}: {event.because}"
        case ServerLeftDamaged():
            return f"{cell} left a damaged server, as {event.next_cell} found: {event.because}"
        case HarnessStopped():
            return f"!! sleepwake itself was stopped for {event.seconds:.0f} s"
        case CellFailed():
            return f"stopped: {event.cause}"


def _server(event: ServerReady) -> str:
    if event.shared_with:
        return f"reuses the server of {event.shared_with[0]}, if it answers as it did when it was fresh"
    version = f"vLLM {event.vllm_version}" if event.vllm_version else "the server"
    return f"{version} is ready on {event.runtime} after {event.boot_seconds:.0f} s"


def _words(event: StepStarted) -> str:
    """A step in words: ``cycle 2: sleep level=1``."""
    options = set_options(event.options)
    shown = " ".join(
        f"{name}={'+'.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in options.items()
        if name != "name"
    )
    named = str(event.options.get("name", ""))
    words = " ".join(word for word in (event.action.replace("_", " "), named, shown) if word)
    words = describe(event) if overlaps(event) else words
    return f"cycle {event.cycle}: {words}" if event.cycle else words
