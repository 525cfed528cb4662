"""Two runs side by side: two releases, two images, two days."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from rich.console import Console
from rich.text import Text

from harness.check.result import NoiseFloor
from harness.errors import ExitCode
from harness.report.measures import Measure, measures
from harness.report.model import CellReport, Report
from harness.report.summary import escaped
from harness.report.tables import STYLES, Row, Table, markdown_table, show_table
from harness.report.text import count
from harness.report.words import outcome_of, run_outcome

_BADNESS = {"clean": 0, "degraded": 1, "corrupt": 2}
"""The outcomes that say something about the engine; between the others there is no better or worse."""
_NOTHING = "-"

FailOn: TypeAlias = Literal["changed", "worse"]
"""What a job fails on that holds one run against another."""


@dataclass(frozen=True, kw_only=True)
class TwoRuns:
    """A run and another one, cell by cell."""

    first: Report
    second: Report

    @cached_property
    def cells(self) -> Mapping[str, tuple[CellReport | None, CellReport | None]]:
        """Every cell of either run, those of the first in its order, then what only the second has."""
        first = {cell.result.cell: cell for cell in self.first.cells}
        second = {cell.result.cell: cell for cell in self.second.cells}
        return {name: (first.get(name), second.get(name)) for name in (*first, *second)}

    @cached_property
    def tones(self) -> Mapping[str, str]:
        """What became of every cell: ``better``, ``worse``, ``changed``, or nothing."""
        return {name: _tone(*pair) for name, pair in self.cells.items()}

    @property
    def tone(self) -> str:
        """What became of the whole: the worst that happened to any cell."""
        return next((tone for tone in ("worse", "changed", "better") if tone in self.tones.values()), "same")

    def held_against(self, what: FailOn) -> ExitCode:
        """How a job that holds the second run against the first ends.

        With ``changed`` any difference in a verdict fails; with ``worse`` what broke, or is broken and new.
        What cannot be told is never passed over: a cell that had a verdict and has none now leaves a doubt.
        """
        if what == "changed":
            return ExitCode.CORRUPT_OR_DEGRADED if self.tone != "same" else ExitCode.CLEAN
        new = [other for one, other in self.cells.values() if one is None and other is not None]
        if "worse" in self.tones.values() or any(_BADNESS.get(cell.outcome) for cell in new):
            return ExitCode.CORRUPT_OR_DEGRADED
        lost = [
            name
            for name, (one, other) in self.cells.items()
            if one and one.outcome in _BADNESS and (other is None or other.outcome not in _BADNESS)
        ]
        none_told = not any(one and other for one, other in self.cells.values())
        return ExitCode.INCONCLUSIVE if lost or none_told else ExitCode.CLEAN

    @property
    def headline(self) -> str:
        """Say in a sentence whether the verdicts hold."""
        both = [name for name, (one, other) in self.cells.items() if one and other]
        changed = [self.tones[name] for name in both if self.tones[name]]
        alone = len(self.cells) - len(both)
        apart = f"; {count(alone, 'cell')} in one of the runs only" if alone else ""
        if not both:
            return "The runs have no cell in common."
        if not changed:
            return f"The verdicts of {count(len(both), 'cell')} are the same{apart}."
        kinds = ", ".join(
            f"{changed.count(tone)} {words}"
            for tone, words in (("worse", "worse"), ("better", "better"), ("changed", "otherwise changed"))
            if tone in changed
        )
        return f"{len(changed)} of {count(len(both), 'verdict')} changed: {kinds}{apart}."

    def tables(self) -> list[Table]:
        """The runs, their verdicts, what they took and how noisy they were."""
        names = (self.first.result.run, self.second.result.run)
        return [
            Table(title="Runs", headings=("", *names), rows=tuple(self._settings())),
            Table(title="Verdicts", headings=("cell", *names, ""), rows=tuple(self._verdicts())),
            Table(
                title="Time and memory (medians)",
                headings=("cell", "what", *names, "change"),
                rows=tuple(self._measures()),
            ),
            Table(title="Noise floors", headings=("cell", *names), rows=tuple(self._noise())),
        ]

    def _settings(self) -> Iterator[Row]:
        first, second = _settings(self.first), _settings(self.second)
        for name in dict.fromkeys((*first, *second)):
            one, other = first.get(name, _NOTHING), second.get(name, _NOTHING)
            if (one, other) != (_NOTHING, _NOTHING):
                differs = one != other and name != "started"
                yield Row(fields=(name, one, other), tone="changed" if differs else "")

    def _verdicts(self) -> Iterator[Row]:
        for name, (one, other) in self.cells.items():
            tone = self.tones[name]
            outcomes = (outcome_of(each) if each else "not run" for each in (one, other))
            yield Row(fields=(name, *outcomes, tone or "same"), tone=tone)

    def _measures(self) -> Iterator[Row]:
        for cell, (one, other) in self.cells.items():
            first, second = _measures(one), _measures(other)
            for name in dict.fromkeys((*first, *second)):
                before, after = first.get(name), second.get(name)
                words = (each.words if each else _NOTHING for each in (before, after))
                yield Row(fields=(cell, name, *words, _change(before, after)))

    def _noise(self) -> Iterator[Row]:
        for cell, pair in self.cells.items():
            first, second = (_noise(each.result.noise) if each else _NOTHING for each in pair)
            yield Row(fields=(cell, first, second), tone="changed" if first != second else "")


def _tone(before: CellReport | None, after: CellReport | None) -> str:
    if before is None or after is None:
        return "changed"
    if before.outcome == after.outcome:
        return "" if before.result.cause == after.result.cause else "changed"
    if before.outcome in _BADNESS and after.outcome in _BADNESS:
        return "worse" if _BADNESS[before.outcome] < _BADNESS[after.outcome] else "better"
    return "changed"


def _measures(cell: CellReport | None) -> dict[str, Measure]:
    found = measures(cell.recording) if cell and cell.recording else []
    return {measure.name: measure for measure in found}


def _change(before: Measure | None, after: Measure | None) -> str:
    if before is None or after is None or not before.value:
        return _NOTHING
    return f"{after.value / before.value - 1:+.0%}"


def _noise(noise: NoiseFloor | None) -> str:
    if noise is None:
        return "not measured"
    if noise.exact:
        return f"exactly zero over {count(noise.compared, 'answer')}"
    shift = noise.largest_logprob_shift
    shifted = "" if shift is None else f", shifts up to {shift:.3g} nat"
    return f"{noise.reworded} of {count(noise.compared, 'answer')} with different wording{shifted}"


def _settings(report: Report) -> dict[str, str]:
    servers = [cell.recording.server for cell in report.cells if cell.recording and cell.recording.server]
    told: dict[str, list[str | None]] = {
        "verdict": [run_outcome(report)],
        "started": [report.run.started_at],
        "vLLM": [server.vllm_version for server in servers],
        "runtime": [server.runtime for server in servers],
        "image": [server.image for server in servers],
        "image digest": [server.image_digest for server in servers],
        "emulated": list(report.emulated),
        "planted fault": list(report.faults),
        "model": [report.run.model.name],
        "model checksum": [report.run.model.checksum],
        "further vLLM flags": [" ".join(report.run.extra_args)],
        "processor": [report.run.machine.processor],
        "cores": [str(report.run.machine.cores or "")],
        "sleepwake": [report.run.sleepwake],
    }
    return {name: ", ".join(dict.fromkeys(filter(None, values))) or _NOTHING for name, values in told.items()}


def show_two_runs(runs: TwoRuns, console: Console) -> None:
    """Print the two runs side by side."""
    console.print(Text(runs.headline, style=STYLES.get(runs.tone, "bold")), soft_wrap=True)
    console.print()
    for table in runs.tables():
        show_table(table, console)


def two_runs_md(runs: TwoRuns) -> str:
    """Return the comparison as GitHub-flavoured Markdown."""
    lines = ["## sleepwake compare", "", escaped(runs.headline), ""]
    lines += [line for table in runs.tables() for line in markdown_table(table)]
    return "\n".join(lines)
