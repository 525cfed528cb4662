"""``python -m tests.benchmarks.sequential``: what ending cells early leaves out, and what that changes.

Every fault is planted in a real engine and taken through three cycles with a probe in each, nothing left
out.  Each recording is then judged twice: whole, and as it would have been had the cell ended as soon as its
verdict was certain.  Recordings of healthy engines (``python -m tests.benchmarks.record``) must never be
certain to be corrupt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from harness import workflow
from harness.check import judge
from harness.check.result import CellResult, Verdict
from harness.check.verdict import decided
from harness.explore.selftest.run import HEALTHY, Selftest, faults_named, shipped_cell
from harness.history.events import CellFinished, CellShortened, Event
from harness.history.layout import CELLS_FOLDER, HISTORY_FILE
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import Role
from harness.history.recording import gather
from harness.history.store import read_events
from harness.report.progress import Progress
from harness.runs.options import RunOptions
from harness.scenario.cells import Cell
from harness.scenario.schema import Scenario

OUT = Path("reports/sequential")
CYCLES = 3

app = App(name="sequential", help_format="plaintext")


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """One recording, judged whole and as it would have been."""

    name: str
    whole: CellResult
    cycle: int | None
    """The cycle after which the verdict was certain; None where it never was."""
    early: CellResult | None

    @property
    def same(self) -> bool:
        """Whether ending early would have changed neither the verdict nor the cause."""
        return self.early is None or (self.early.verdict, self.early.cause) == (
            self.whole.verdict,
            self.whole.cause,
        )


def repeating_cell() -> Cell:
    """The selftest's cell with a probe in each cycle, and fewer and shorter answers."""
    shipped = shipped_cell()
    changed = {
        "prompts": {"corpus": shipped.scenario.prompts.corpus, "count": 6},
        "sampling": {"temperature": 0, "max_tokens": 12},
        "evidence": ["warm", "rehit", "unseen"],
        "concurrency": 6,
        "script": [
            {"probe": "baseline"},
            {"null_transition": {}},
            {
                "repeat": CYCLES,
                "steps": [{"sleep": {"level": 1}}, {"wake_up": {}}, {"probe": "after-wake"}],
            },
        ],
    }
    scenario = Scenario.model_validate({**shipped.scenario.model_dump(mode="json"), **changed})
    asked = (*shipped.prompts, *shipped.held_out)
    count, held_out = scenario.prompts.count, scenario.prompts.held_out
    return replace(
        shipped, scenario=scenario, prompts=asked[:count], held_out=asked[count : count + held_out]
    )


def compare(name: str, history: Sequence[Event]) -> AnswerPair:
    """Judge a history whole, and ended where its verdict was certain first."""
    for cycle, prefix in enumerate(ended_after_each_cycle(history), start=1):
        recording = gather(prefix)
        if any(recording.passes_of(Role.CONTROL)) and decided(recording):
            return AnswerPair(name=name, whole=judge(gather(history)), cycle=cycle, early=judge(recording))
    return AnswerPair(name=name, whole=judge(gather(history)), cycle=None, early=None)


def ended_after_each_cycle(history: Sequence[Event]) -> Iterator[list[Event]]:
    """The history as it would be had each of its cycles but the last been the last."""
    cycle_of = {event.step: event.cycle for event in history if isinstance(event, StepStarted)}
    last = max(cycle_of.values(), default=0)
    ends = {
        cycle_of[event.step]: number
        for number, event in enumerate(history, start=1)
        if isinstance(event, StepFinished) and cycle_of.get(event.step)
    }
    for cycle, end in sorted(ends.items()):
        if cycle < last:
            skipped = tuple(step for step, of in cycle_of.items() if of > cycle)
            t = history[end - 1].t
            yield [*history[:end], CellShortened(t=t, skipped=skipped), CellFinished(t=t)]


def histories(*runs: Path) -> Iterator[tuple[str, list[Event]]]:
    """Every cell of some runs: the name of its arm and its events."""
    for run in runs:
        for folder in sorted((run / CELLS_FOLDER).iterdir()):
            yield folder.name.partition(".")[2], list(read_events(folder / HISTORY_FILE))


@app.default
def benchmark(
    *,
    out: Path = OUT,
    healthy: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
) -> None:
    """Record what is not recorded yet, and print the comparison.

    Args:
        out: Where the recordings of planted faults are.
        healthy: Runs whose cells named ``healthy...`` must never be certain to be corrupt.
    """
    if not out.exists():
        _record(out)
    compared = [compare(name, history) for run in sorted(out.glob("2*")) for name, history in histories(run)]
    for line in _lines(compared):
        _say(line)
    clean = [compare(name, history) for name, history in histories(*healthy) if name.startswith("healthy")]
    if clean:
        _say(f"{len(clean)} healthy recordings: {_certain(clean)} certain to be corrupt, early or late")


def _record(out: Path) -> None:
    choice = workflow.choose(RunOptions(runtime="process"))
    trial = Selftest(faults=faults_named(()), choice=choice, out=out, base=repeating_cell())
    trial.run(progress=lambda cells: Progress(Console(highlight=False), cells=cells))


def _lines(compared: Sequence[AnswerPair]) -> Iterator[str]:
    yield "| planted | verdict and cause, whole | certain after cycle | ended there |"
    yield "|---|---|---|---|"
    for each in compared:
        told = "the same" if each.same else str(each.early and (each.early.verdict, each.early.cause))
        after = f"{each.cycle} of {CYCLES}" if each.cycle else "never"
        yield f"| {each.name} | {_verdict(each.whole)} | {after} | {told if each.cycle else ''} |"
    planted = [each for each in compared if each.name not in HEALTHY]
    early = [each for each in compared if each.cycle is not None]
    yield ""
    same = sum(each.same for each in early)
    yield f"{len(planted)} faults, {len(early)} certain early: {same} with the same verdict and cause"


def _verdict(result: CellResult) -> str:
    verdict = result.verdict.value if result.verdict else f"error: {result.error}"
    return f"{verdict} ({result.cause.value})" if result.cause else verdict


def _certain(compared: Sequence[AnswerPair]) -> int:
    return sum(each.cycle is not None or each.whole.verdict is Verdict.CORRUPT for each in compared)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the benchmark's output


if __name__ == "__main__":
    app()
