"""Taking a run up again: what is kept, what is run once more, and under which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pydantic import JsonValue, ValidationError

from harness.check import judge
from harness.check.result import Verdict
from harness.drive.run_directory import describe_cell
from harness.errors import HistoryError, UsageError
from harness.history.layout import HISTORY_FILE, RUN_FILE, cell_folder
from harness.history.recording import load_recording
from harness.redaction import HIDDEN
from harness.scenario.cells import Cell, load_cells
from harness.scenario.schema import Scenario
from harness.stored_run import find_run, planned_cells, read_description
from harness.workflow import OF_ONE_CALL, OPTIONS, RunOptions

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
    machine or the user prevented: cells never begun, cut off, interrupted or in error.

    Args:
        name: A run directory, or its name below ``given.out``.
        given: The options of this call: none, or the same as the run's.

    Raises:
        HistoryError: there is no such run, or it cannot be understood.
        UsageError: ``given`` contradicts the run, or its scenarios have changed since.
    """
    directory = find_run(name, out=given.out)
    description = read_description(directory)
    stored = _options_of(description, directory)
    options = replace(stored, **{name: getattr(given, name) for name in OF_ONE_CALL})
    _require_agreement(given, options)
    cells = _cells_of(description, directory)
    unfinished = tuple(cell for cell in cells if _lacks_verdict(cell_folder(directory, cell.id)))
    return Resumption(
        directory=directory,
        options=options,
        cells=unfinished,
        kept=tuple(cell.id for cell in cells if cell not in unfinished),
    )


def _lacks_verdict(cell_directory: Path) -> bool:
    if not (cell_directory / HISTORY_FILE).exists():
        return True
    try:
        recording = load_recording(cell_directory)
    except HistoryError:
        return True
    verdict = judge(recording).verdict
    if verdict in {Verdict.CORRUPT, Verdict.DEGRADED}:
        return False
    return verdict is None or not recording.finished


def _options_of(description: Mapping[str, JsonValue], directory: Path) -> RunOptions:
    """The options of the run, with what had been left to the machine as the machine decided it."""
    try:
        options = OPTIONS.validate_python(description["options"])
    except (KeyError, ValidationError) as error:
        raise HistoryError(
            "does not say with which options it was run",
            path=directory / RUN_FILE,
            remedy="it was written by another version of sleepwake; start a new run",
        ) from error
    if any(HIDDEN in word for word in options.vllm_args):
        raise UsageError(
            "the run was given a secret, which is not stored", remedy="start a new run with the same options"
        )
    runtime = description.get("runtime")
    chosen = runtime.get("name") if isinstance(runtime, dict) else None
    return replace(options, runtime=str(chosen or options.runtime), vllm=_release(description, options))


def _release(description: Mapping[str, JsonValue], options: RunOptions) -> str | None:
    """The release the kept cells ran on, so that the others run on the same."""
    if options.vllm or options.image or options.endpoint:
        return options.vllm
    servers = description.get("servers")
    for facts in servers.values() if isinstance(servers, dict) else ():
        if isinstance(facts, dict) and isinstance(version := facts.get("vllm_version"), str):
            return version.partition("+")[0]
    return None


def _require_agreement(given: RunOptions, stored: RunOptions) -> None:
    for field in fields(RunOptions):
        asked, was = getattr(given, field.name), getattr(stored, field.name)
        if field.name not in OF_ONE_CALL and asked not in (field.default, was):
            raise UsageError(
                f"--resume: {_spelt(field.name)} {_shown(asked)}; the run has {_shown(was)}",
                remedy="leave it out, or start a new run",
            )


def _spelt(name: str) -> str:
    return _FLAGS.get(name, f"--{name}")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _cells_of(description: Mapping[str, JsonValue], directory: Path) -> list[Cell]:
    """The cells of the run, from their files as these are now.

    Raises:
        UsageError: a cell is not there any more, or asks something else than it did.
    """
    planned = planned_cells(description, directory)
    files = dict.fromkeys(Path(str(cell.get("scenario_file"))) for cell in planned.values())
    found = {cell.id: cell for cell in load_cells(list(files))}
    for name, was in planned.items():
        if name not in found or not _asks_the_same(found[name], was):
            raise UsageError(
                f"--resume: the scenario of {name} has changed since the run began",
                remedy="start a new run: cells that were asked different things cannot be set side by side",
            )
    return [found[name] for name in planned]


def _asks_the_same(cell: Cell, was: Mapping[str, JsonValue]) -> bool:
    now = describe_cell(cell)
    try:
        # Read by today's schema, so that a key that is new and left at its default makes no difference.
        before = Scenario.model_validate(was.get("scenario"))
    except ValidationError:
        return False
    same_script = before == Scenario.model_validate(now["scenario"])
    return same_script and was.get("prompts_checksum") == now["prompts_checksum"]
