"""Taking a run up again: what is kept, what is run once more, and under which options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from harness.check import judge
from harness.check.noise.budget import ErrorBudget
from harness.check.result import Verdict
from harness.errors import HistoryError, UsageError
from harness.history.layout import HISTORY_FILE, cell_folder
from harness.history.recording import load_recording
from harness.history.run_description import AskedOptions, DescribedCell, RunDescription, read_description
from harness.redaction import HIDDEN
from harness.runs.finding import find_run
from harness.runs.judging import budget_of
from harness.runs.options import RunOptions
from harness.runs.plan import describe_cell
from harness.scenario.cells import Cell, load_cells
from harness.scenario.schema import Scenario

_FLAGS = {"vllm_args": "--vllm-arg", "arms": "--arm", "expression": "-k", "paths": "the scenario paths"}
"""How options are spelt that are not spelt like their field."""


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A stored run, the options it was started with, and the cells it still lacks."""

    directory: Path
    options: RunOptions
    cells: tuple[Cell, ...]
    kept: tuple[str, ...]
    """The cells that have a verdict already."""


def resume(name: str, given: RunOptions) -> Resumption:
    """Find out how to carry on the run ``name``.

    Finished cells are kept, and so are those whose verdict is a failure.  Run again is what the
    machine or the user prevented: cells never begun, cut off, interrupted or in error.  ``given`` are the
    options of this call: none, or the same as the run's.

    Raises:
        HistoryError: there is no such run, or it cannot be understood.
        UsageError: ``given`` contradicts the run, or its scenarios have changed since.
    """
    directory = find_run(name, out=given.out)
    description = read_description(directory)
    asked = _asked(description)
    _require_agreement(given, asked)
    cells = _cells_of(description)
    budget = budget_of(description)
    unfinished = tuple(
        cell
        for cell in cells
        if _lacks_verdict(
            cell_folder(directory, cell.id), budget, ended_with=description.histories.get(cell.id)
        )
    )
    return Resumption(
        directory=directory,
        options=given.of_this_call(asked),
        cells=unfinished,
        kept=tuple(cell.id for cell in cells if cell not in unfinished),
    )


def _lacks_verdict(cell_directory: Path, budget: ErrorBudget, *, ended_with: str | None) -> bool:
    if not (cell_directory / HISTORY_FILE).exists():
        return True
    try:
        recording = load_recording(cell_directory, ended_with=ended_with)
    except HistoryError:
        return True
    verdict = judge(recording, budget=budget).verdict
    if verdict in {Verdict.CORRUPT, Verdict.DEGRADED}:
        return False
    return verdict is None or not recording.finished


def _asked(description: RunDescription) -> AskedOptions:
    """The options of the run, with what had been left to the machine as the machine decided it."""
    asked = description.options
    if any(HIDDEN in word for word in asked.vllm_args):
        raise UsageError(
            "the run was given a secret, which is not stored", remedy="start a new run with the same options"
        )
    decided = {"runtime": description.runtime.name or asked.runtime, "vllm": _release(description)}
    return asked.model_copy(update={**decided, "fault": description.fault})


def _release(description: RunDescription) -> str | None:
    """The release the kept cells ran on, so that the others run on the same."""
    asked = description.options
    if asked.vllm or asked.image or asked.endpoint:
        return asked.vllm
    return next((version.partition("+")[0] for version in description.vllm_versions), None)


def _require_agreement(given: RunOptions, stored: AskedOptions) -> None:
    for name, option in AskedOptions.model_fields.items():
        asked, was = getattr(given, name), getattr(stored, name)
        if asked not in (option.default, was):
            raise UsageError(
                f"--resume: {_FLAGS.get(name, f'--{name}')} {_shown(asked)}; the run has {_shown(was)}",
                remedy="leave it out, or start a new run",
            )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _cells_of(description: RunDescription) -> list[Cell]:
    """The cells of the run, from their files as these are now.

    Raises:
        UsageError: a cell is not there any more, or asks something else than it did.
    """
    files = dict.fromkeys(Path(cell.scenario_file) for cell in description.cells.values())
    there = load_cells(list(files), prompts=description.options.prompts)
    found = {cell.id: cell for each in there for cell in (each.as_served(), each)}
    for name, was in description.cells.items():
        if name in found:
            found[name] = _asking_kinds(found[name], was, named=description.options.kinds is not None)
        if name not in found or not _asks_the_same(found[name], was):
            raise UsageError(
                f"--resume: the scenario of {name} has changed since the run began",
                remedy="start a new run: cells that were asked different things cannot be set side by side",
            )
    return [found[name] for name in description.cells]


def _asking_kinds(cell: Cell, was: DescribedCell, *, named: bool) -> Cell:
    """The same, which asks the kinds of requests that it did: most scenarios leave that to the run."""
    if cell.scenario.kinds is not None and not named:
        return cell
    before = was.scenario.model_dump(mode="json").get("kinds")
    kinds = tuple(before) if isinstance(before, list) else before
    return replace(cell, scenario=cell.scenario.model_copy(update={"kinds": kinds}))


def _asks_the_same(cell: Cell, was: DescribedCell) -> bool:
    now = describe_cell(cell)
    try:
        # Read by today's schema, so that a key that is new and left at its default makes no difference.
        before = Scenario.model_validate(was.scenario.model_dump(mode="json", exclude_unset=True))
    except ValidationError:
        return False
    same_script = before == Scenario.model_validate(now.scenario.model_dump(mode="json"))
    return same_script and was.prompts_checksum == now.prompts_checksum
