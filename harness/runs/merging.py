"""Putting the shards of a matrix together: the run that one machine would have recorded."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from harness.errors import HistoryError, UsageError
from harness.history.files import storing
from harness.history.layout import RUN_FILE, cell_folder
from harness.history.run_description import (
    AskedOptions,
    DescribedCell,
    DescribedScenario,
    MergedShard,
    RunDescription,
    read_description,
    write_description,
)
from harness.history.time_parts import TimeSpent
from harness.redaction import without_secret_flags
from harness.report.text import count
from harness.runs.finding import new_run_directory
from harness.scenario.shard import Shard

_MACHINES_MAY_DIFFER: Mapping[str, None] = {"paths": None, "shard": None}
"""Options that are left out where shards are held against each other."""


@dataclass(frozen=True)
class ShardRun:
    """The run directory of one shard."""

    directory: Path
    description: RunDescription
    shard: Shard
    matrix: tuple[str, ...]
    """Every cell of the whole matrix, in order."""

    @property
    def cells(self) -> Mapping[str, DescribedCell]:
        """What was asked of its cells."""
        return self.description.cells

    @property
    def question(self) -> tuple[AskedOptions, str | None, str | None, str | None]:
        """Everything that has to be the same on every machine, so that the cells are of one run."""
        described = self.description
        return (
            described.options.model_copy(update=_MACHINES_MAY_DIFFER),
            described.model.checksum or described.model.name,
            described.runtime.name,
            described.fault,
        )

    @property
    def scenarios(self) -> Mapping[str, DescribedScenario]:
        """Each scenario by its name, as it was run."""
        return {cell.scenario.name: cell.scenario for cell in self.cells.values()}

    @property
    def releases(self) -> set[str]:
        """The vLLM releases its servers said they are."""
        return set(self.description.vllm_versions)


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
    with storing(merged):
        for run in runs:
            for cell in run.cells:
                if (recorded := cell_folder(run.directory, cell)).exists():
                    shutil.copytree(recorded, cell_folder(merged, cell))
    write_description(merged, _merged(runs, name=merged.name))
    return merged


def read_shard(directory: Path) -> ShardRun:
    """Read what a shard's run says of itself.

    Raises:
        HistoryError: it is not the run of a shard.
    """
    description = read_description(directory)
    if (told := description.shard) is None:
        raise HistoryError(
            "was not run with --shard",
            path=directory / RUN_FILE,
            remedy="name the runs of all shards of one matrix; "
            "`sleepwake compare` sets other runs side by side",
        )
    return ShardRun(directory, description, Shard(index=told.index, of=told.of), told.matrix)


def _require_same_matrix(first: ShardRun, other: ShardRun) -> None:
    same: list[tuple[str, Callable[[ShardRun], object], str]] = [
        ("another version of sleepwake", lambda run: run.description.sleepwake, "the same version"),
        ("a division into another number of shards", lambda run: run.shard.of, "the same --shard i/n"),
        ("another matrix of cells", lambda run: run.matrix, "the same scenarios and options"),
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
                remedy="remove one of them",
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


def _merged(runs: Sequence[ShardRun], *, name: str) -> RunDescription:
    """``run.json`` of the merged run: what the shards share, each cell's own, what was each shard's."""
    first, matrix = runs[0].description, runs[0].matrix
    described = [run.description for run in runs]
    cells = {cell: told for each in described for cell, told in each.cells.items()}
    servers = {cell: told for each in described for cell, told in each.servers.items()}
    histories = {cell: digest for each in described for cell, digest in each.histories.items()}
    ends = [each.finished_at for each in described]
    shared = {key: getattr(first, key) for key in first.model_fields_set - {"shard"}}
    merged = {
        "run": name,
        "started_at": min((each.started_at for each in described if each.started_at), default=None),
        "finished_at": None if None in ends else max(filter(None, ends), default=None),
        "interrupted": any(each.interrupted for each in described),
        "ended_with": next((each.ended_with for each in described if each.ended_with), None),
        "command": tuple(without_secret_flags(sys.argv)),
        "options": first.options.model_copy(update={"shard": None}),
        "cells": {cell: cells[cell] for cell in matrix},
        "shards": tuple(map(_shard, described)),
        "milliseconds_outside_cells": sum(
            (each.milliseconds_outside_cells for each in described), start=TimeSpent()
        ),
        "servers": {cell: servers[cell] for cell in matrix if cell in servers},
        "histories": {cell: histories[cell] for cell in matrix if cell in histories},
    }
    return RunDescription(**{**shared, **merged})


def _shard(description: RunDescription) -> MergedShard:
    """What was the shard's own."""
    return MergedShard(**{key: getattr(description, key) for key in MergedShard.model_fields})
