"""What every format renders: the judged run, each cell with its recording, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from harness.check.result import CellResult, RunResult
from harness.history.recording import Recording
from harness.history.run_description import DescribedCell, RunDescription

IN_ITS_USERS_PROCESS = "guarded"
"""The runtime of an engine that a guard asks."""

SEVERITY = ("corrupt", "degraded", "error", "interrupted", "inconclusive", "clean")
"""The outcomes of a cell, worst first."""

_UNDESCRIBED = RunDescription(run="", cells={})


@dataclass(frozen=True, kw_only=True)
class CellReport:
    """One cell: its judgement, what it rests on, and the command that runs it again."""

    result: CellResult
    recording: Recording | None = None
    reproduce: str = ""
    server_log: str = ""
    """The end of what the server printed."""
    batches_matter: CellResult | None = None
    """Of a cell whose engine answers alike in any batch: the one that differs by nothing else."""
    interrupted: bool = False
    """Whether it was the user, or a signal, who stopped it."""

    @property
    def token_texts(self) -> Mapping[int, str]:
        """What single tokens read, where it is known; elsewhere ids stand alone."""
        return self.recording.token_texts if self.recording else {}

    @property
    def log_cell(self) -> str:
        """The cell in whose folder the whole log of the server is."""
        return self.recording.log_cell if self.recording else self.result.cell

    @property
    def title(self) -> str:
        """The cell as people say it: scenario and arm."""
        return f"{self.result.scenario} / {self.result.arm}"

    @property
    def outcome(self) -> str:
        """The verdict in one word; ``error`` where the machine got in the way, or else ``interrupted``."""
        if self.result.verdict:
            return self.result.verdict.value
        return "interrupted" if self.interrupted else "error"

    @property
    def seconds(self) -> float:
        """From the start of the cell to the last thing recorded; 0 without a recording."""
        return last_moment(self.recording) if self.recording else 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run as the reports tell it."""

    result: RunResult
    cells: tuple[CellReport, ...]
    run: RunDescription = _UNDESCRIBED
    """Resolved configuration, versions, machine."""

    @property
    def emulated(self) -> tuple[str, ...]:
        """Everything that was not the real thing in any cell."""
        return tuple(dict.fromkeys(name for cell in self.cells for name in cell.result.emulated))

    @property
    def faults(self) -> tuple[str, ...]:
        """Every fault that was planted on purpose."""
        return tuple(dict.fromkeys(cell.result.fault for cell in self.cells if cell.result.fault))


def assemble(
    result: RunResult,
    recordings: Mapping[str, Recording],
    *,
    run: RunDescription | None = None,
    server_logs: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """Gather what the reports tell; a cell without a recording is reported by its judgement alone."""
    described = run or RunDescription(run=result.run, cells={})
    return Report(
        result=result,
        cells=tuple(
            CellReport(
                result=cell,
                recording=recordings.get(cell.cell),
                reproduce=reproduce_command(cell, described),
                server_log=server_logs.get(cell.cell, ""),
                batches_matter=_where_batches_matter(cell, result.cells, recordings),
                interrupted=_was_interrupted(recordings.get(cell.cell), described),
            )
            for cell in result.cells
        ),
        run=described,
    )


def _was_interrupted(recording: Recording | None, run: RunDescription) -> bool:
    """Whether a cell was stopped by its user, or never begun because the run was."""
    if recording is None:
        return bool(run.interrupted)
    return recording.failure is not None and recording.failure.interrupted


def is_known(emulated: str) -> bool:
    """Whether it is known what is emulated: a server of others does not tell."""
    return not emulated.startswith("unknown (")


def worst_first(cells: Sequence[CellReport]) -> list[CellReport]:
    """The cells by outcome, those of one outcome in their order."""
    return sorted(cells, key=lambda cell: SEVERITY.index(cell.outcome))


def _where_batches_matter(
    cell: CellResult, cells: Sequence[CellResult], recordings: Mapping[str, Recording]
) -> CellResult | None:
    """The cell beside a batch-invariant one that has the same scenario and, but for that, the same arm."""
    recording = recordings.get(cell.cell)
    if recording is None or not recording.cell.batch_invariant:
        return None
    for other in cells:
        beside = recordings.get(other.cell)
        if beside is None or other.scenario != cell.scenario or beside.cell.batch_invariant:
            continue
        if beside.cell.arm_args == recording.cell.arm_args:
            return other
    return None


def reproduce_command(cell: CellResult, run: RunDescription) -> str:
    """Return the shell command that runs ``cell`` again under the same conditions.

    An attached server has to be named by whoever repeats the run, its version with it.
    """
    if run.watched is not None:
        return "sleepwake watch --endpoint URL --once"
    if cell.runtime == IN_ITS_USERS_PROCESS:
        return (
            f"sleepwake check {shlex.quote(run.run)}  # judges again; only its user can run the engine again"
        )
    return shlex.join(_words_to_run_again(cell, run))


def _words_to_run_again(cell: CellResult, run: RunDescription) -> list[str]:
    described = run.cells.get(cell.cell, DescribedCell())
    words = ["sleepwake", "run", described.scenario_file or cell.scenario]
    if _is_an_arm(cell, described):
        words += ["--arm", cell.arm]
    if cell.fault:
        words += ["--fault", cell.fault]
    if cell.runtime:
        words += ["--runtime", cell.runtime]
    if cell.runtime == "attached":
        words += ["--endpoint", "URL"]
    elif run.options.image:
        words += ["--image", run.options.image]
    elif cell.vllm_version:
        words += ["--vllm", cell.vllm_version.partition("+")[0]]
    words += _asked_besides(run)
    return words


def _asked_besides(run: RunDescription) -> Iterator[str]:
    """What the run was asked for besides cells and servers, and decides what a cell asks and is asked of."""
    asked = run.options
    for option, value in (("--model", asked.model), ("--prompts", asked.prompts)):
        if value:
            yield from (option, str(value))
    yield from (f"--vllm-arg={flag}" for flag in run.extra_args)
    if asked.kinds:
        yield from ("--kinds", asked.kinds)
    if asked.thorough:
        yield "--thorough"


def _is_an_arm(cell: CellResult, described: DescribedCell) -> bool:
    """Searches give one arm many names, a trial each: these are not in the scenario's file."""
    arms = described.scenario.arms
    return not arms or cell.arm in arms


def last_moment(recording: Recording) -> float:
    """Return the time of the last recorded event, in seconds since the cell started."""
    times = [recording.cell.t]
    times += [step.t for step in recording.steps]
    times += [end.t for end in recording.step_ends.values()]
    times += [call.t for call in recording.calls]
    times += [seen.t for seen in recording.observations]
    times += [answer.t for each in recording.passes for answer in each.answers.values()]
    if recording.failure:
        times.append(recording.failure.t)
    return max(times)
