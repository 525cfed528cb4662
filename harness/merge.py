"""Putting the shards of a matrix together: the run that one machine would have recorded."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from pydantic import JsonValue

from harness.drive.run_directory import new_run_directory
from harness.errors import HistoryError, StorageError, UsageError
from harness.history.files import replace_json
from harness.history.layout import OUTSIDE_CELLS, RUN_FILE, cell_folder
from harness.history.time_spent import TimeSpent
from harness.report.text import count
from harness.scenario.shard import Shard
from harness.stored_run import outside_cells, planned_cells, read_description

_OF_A_MACHINE = {"paths", "shard"}
"""Options that may differ between machines."""
_TOLD_OF_A_SHARD = ("run", "shard", "started_at", "finished_at", "interrupted", "command", "machine")


@dataclass(frozen=True)
class ShardRun:
    """The run directory of one shard."""

    directory: Path
    description: Mapping[str, JsonValue]
    shard: Shard
    matrix: tuple[str, ...]
    """Every cell of the whole matrix, in order."""

    @cached_property
    def cells(self) -> Mapping[str, Mapping[str, JsonValue]]:
        """What the run says of its cells."""
        return planned_cells(self.description, self.directory)

    @property
    def question(self) -> JsonValue:
        """Everything that has to be the same on every machine, so that the cells are of one run."""
        options, model, runtime = (self._mapping(name) for name in ("options", "model", "runtime"))
        return {
            "options": {name: value for name, value in options.items() if name not in _OF_A_MACHINE},
            "model": model.get("checksum") or model.get("name"),
            "runtime": runtime.get("name"),
            "fault": self.description.get("fault"),
        }

    @property
    def servers(self) -> Mapping[str, JsonValue]:
        """What each cell's server said it is."""
        return self._mapping("servers")

    @property
    def scenarios(self) -> Mapping[str, JsonValue]:
        """Each scenario by its name, as it was run."""
        found = (cell["scenario"] for cell in self.cells.values())
        return {str(scenario["name"]): scenario for scenario in found if isinstance(scenario, dict)}

    @property
    def releases(self) -> set[str]:
        """The vLLM releases its servers said they are."""
        told = (facts.get("vllm_version") for facts in self.servers.values() if isinstance(facts, dict))
        return {str(version) for version in told if version}

    def _mapping(self, name: str) -> Mapping[str, JsonValue]:
        value = self.description.get(name)
        return value if isinstance(value, dict) else {}


def merge(directories: Sequence[Path], *, out: Path) -> Path:
    """Write the run that the shards in ``directories`` make up into a directory of its own under ``out``.

    Everything is checked before anything is written.  A shard that broke off can be merged: cells
    that it did not reach have no verdict, as in any run.

    Raises:
        HistoryError: one of them is not a run directory.
        UsageError: they are not the shards of one matrix, or not all of them.
        StorageError: the merged run cannot be written.
    """
    runs = sorted((read_shard(directory) for directory in directories), key=lambda run: run.shard.index)
    if not runs:
        raise UsageError("nothing to merge", remedy="name the run directory of every shard")
    for other in runs[1:]:
        _require_same_matrix(runs[0], other)
    _require_each_once(runs)
    merged = new_run_directory(out)
    try:
        for run in runs:
            for cell in run.cells:
                if (recorded := cell_folder(run.directory, cell)).exists():
                    shutil.copytree(recorded, cell_folder(merged, cell))
    except OSError as error:
        raise StorageError(
            f"{merged}: cannot be written: {error.strerror}", remedy="free disk space"
        ) from error
    replace_json(merged / RUN_FILE, _description(runs, name=merged.name))
    return merged


def read_shard(directory: Path) -> ShardRun:
    """Read what a shard's run says of itself.

    Raises:
        HistoryError: it is not the run of a shard.
    """
    description = read_description(directory)
    match description.get("shard"):
        case {"index": int(index), "of": int(of), "matrix": list(matrix)}:
            shard = Shard(index=index, of=of)
            return ShardRun(directory, description, shard, tuple(str(cell) for cell in matrix))
    raise HistoryError(
        "was not run with --shard",
        path=directory / RUN_FILE,
        remedy="name the runs of all shards of one matrix; `sleepwake compare` sets other runs side by side",
    )


def _require_same_matrix(first: ShardRun, other: ShardRun) -> None:
    same: list[tuple[str, Callable[[ShardRun], JsonValue], str]] = [
        ("another version of sleepwake", lambda run: run.description.get("sleepwake"), "the same version"),
        ("a division into another number of shards", lambda run: run.shard.of, "the same --shard i/n"),
        ("another matrix of cells", lambda run: [*run.matrix], "the same scenarios and options"),
        ("other options, or another model or runtime", lambda run: run.question, "the same options"),
    ]
    for difference, told, remedy in same:
        if told(first) != told(other):
            raise UsageError(
                f"{other.directory}: {difference} than {first.directory}",
                remedy=f"run every shard with {remedy}",
            )
    for name in first.scenarios.keys() & other.scenarios.keys():
        if first.scenarios[name] != other.scenarios[name]:
            raise UsageError(
                f"{other.directory}: scenario {name} asks something else than in {first.directory}",
                remedy="run every shard from the same files",
            )
    if len(releases := first.releases | other.releases) > 1:
        raise UsageError(
            f"{other.directory}: another vLLM than in {first.directory}: {', '.join(sorted(releases))}",
            remedy="run every shard with the same release, for example with --vllm",
        )


def _require_each_once(runs: Sequence[ShardRun]) -> None:
    for one, other in combinations(runs, 2):
        if one.shard == other.shard or one.cells.keys() & other.cells.keys():
            raise UsageError(
                f"{one.directory} and {other.directory} hold the same cells (shard {other.shard})",
                remedy="leave one of them out",
            )
    if missing := [cell for cell in runs[0].matrix if not any(cell in run.cells for run in runs)]:
        there = {run.shard.index for run in runs}
        shards = [
            str(Shard(index=i, of=runs[0].shard.of)) for i in range(1, runs[0].shard.of + 1) if i not in there
        ]
        raise UsageError(
            f"{count(len(missing), 'cell')} of {len(runs[0].matrix)} missing: {', '.join(missing)}",
            remedy=f"name the run directory of shard {', '.join(shards)} as well",
        )


def _description(runs: Sequence[ShardRun], *, name: str) -> Mapping[str, JsonValue]:
    """``run.json`` of the merged run: what the shards share, each cell's own, what was each shard's."""
    first = {key: value for key, value in runs[0].description.items() if key != "shard"}
    cells = {cell: told for run in runs for cell, told in run.cells.items()}
    servers = {cell: told for run in runs for cell, told in run.servers.items()}
    options = first.get("options")
    ends = [run.description.get("finished_at") for run in runs]
    outside = sum((outside_cells(run.description) for run in runs), start=TimeSpent())
    return {
        **first,
        "run": name,
        "started_at": min(str(run.description.get("started_at")) for run in runs),
        "finished_at": None if None in ends else max(map(str, ends)),
        "interrupted": any(run.description.get("interrupted") for run in runs),
        "command": [*sys.argv],
        "options": {**(options if isinstance(options, dict) else {}), "shard": None},
        "cells": {cell: dict(cells[cell]) for cell in runs[0].matrix},
        "shards": [{key: run.description.get(key) for key in _TOLD_OF_A_SHARD} for run in runs],
        OUTSIDE_CELLS: dict(outside.model_dump(exclude_defaults=True)),
        "servers": {cell: servers[cell] for cell in runs[0].matrix if cell in servers},
    }
