"""The run directory, and ``run.json`` in it: what was asked for, on which machine, and what it ran on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import JsonValue

from harness import __version__
from harness.drive.cell import CellJob
from harness.drive.recorder import Watcher
from harness.errors import UsageError
from harness.history.events import CellFailed, CellFinished, Event, ServerReady
from harness.history.files import replace_json
from harness.history.layout import LATEST_LINK, OUTSIDE_CELLS, RUN_FILE, cell_folder
from harness.history.time_spent import TimeSpent, milliseconds
from harness.installation import as_asked_for
from harness.models.model import Model
from harness.redaction import HIDDEN, is_secret_name, without_secret_flags
from harness.scenario.cells import Cell
from harness.scenario.shard import Shard
from harness.scenario.sources import SCENARIO, key_sources
from harness.servers.flags import flag_name

_SERVER_FIELDS = {"runtime", "command", "vllm_version", "image", "image_digest", "emulated", "shared_with"}


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is going to be run, where, and why in this way.

    ``options`` is what was asked for, enough to ask for it again, and ``sources`` says where each option
    came from.  With ``resumes`` the directory holds a run already: ``cells`` are those of its cells that
    are run once more.
    """

    run_id: str
    directory: Path
    cells: tuple[Cell, ...]
    model: Model
    runtime_name: str
    runtime_reason: str
    fault: str | None
    command: tuple[str, ...]
    extra_args: tuple[str, ...] = ()
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    resumes: bool = False
    shard: Shard | None = None
    matrix: tuple[str, ...] = ()
    """Every cell that was asked for, those of other shards included."""
    asked_at: float = field(default_factory=time.monotonic)
    """When the run was asked for, on the monotonic clock: what comes before its first cell takes time too."""

    def job(self, cell: Cell) -> CellJob:
        """The part of the plan that is one cell's."""
        return CellJob(
            cell=cell,
            run_id=self.run_id,
            directory=cell_folder(self.directory, cell.id),
            model=self.model,
            fault=self.fault,
            extra_args=self.extra_args,
        )


def new_run_directory(parent: Path, *, now: datetime | None = None) -> Path:
    """Create a directory named after the time, and point ``latest`` at it.

    Raises:
        UsageError: ``parent`` cannot be written.
    """
    moment = now or datetime.now().astimezone()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        directory = _first_free(parent, moment.strftime("%Y-%m-%dT%H-%M-%S"))
        _point_latest_at(directory)
    except OSError as error:
        raise UsageError(
            f"--out: cannot write to {parent}: {error.strerror}", remedy="choose another place with --out"
        ) from error
    return directory


def _first_free(parent: Path, stem: str) -> Path:
    """Two runs may start in the same second: the later ones are numbered."""
    number = 1
    while True:
        directory = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            number += 1
        else:
            return directory


def _point_latest_at(directory: Path) -> None:
    temporary = directory.parent / f".{LATEST_LINK}-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(directory.name, target_is_directory=True)
    temporary.replace(directory.parent / LATEST_LINK)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold the directory; the system lets go of it when the harness ends, however it ends."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError(
            f"{directory}: another sleepwake is at work in this run", remedy="wait for it, or interrupt it"
        ) from error
    finally:
        os.close(handle)


class RunRecord:
    """``run.json``: written when the run starts, again whenever a server tells what it is, and at the end."""

    def __init__(self, plan: RunPlan) -> None:
        self._path = plan.directory / RUN_FILE
        self._content = _taken_up(plan) if plan.resumes else _describe(plan)
        servers = self._content.pop("servers", None)
        self._outside_cells = TimeSpent.model_validate(self._content.pop(OUTSIDE_CELLS, {}))
        self._outside_cells += TimeSpent(harness=milliseconds(time.monotonic() - plan.asked_at))
        run_anew = {cell.id for cell in plan.cells}
        self._servers: dict[str, JsonValue] = (
            {cell: facts for cell, facts in servers.items() if cell not in run_anew}
            if isinstance(servers, dict)
            else {}
        )

    def write(self) -> None:
        """Write what is known so far."""
        outside: dict[str, JsonValue] = self._outside_cells.model_dump(exclude_defaults=True)
        replace_json(self._path, {**self._content, OUTSIDE_CELLS: outside, "servers": self._servers})

    def finish(self, *, interrupted: bool) -> None:
        """Write that the run has ended."""
        self._content["finished_at"] = _now()
        self._content["interrupted"] = interrupted
        self.write()

    def noting(self, cell: str, watcher: Watcher) -> Watcher:
        """Wrap ``watcher`` so that what a server is gets into ``run.json`` as soon as it is known.

        What ``watcher`` does when a cell is over is its judgement, and is timed as such.
        """

        def watch(event: Event) -> None:
            if isinstance(event, ServerReady):
                self._servers[cell] = event.model_dump(mode="json", include=_SERVER_FIELDS)
                self.write()
            with self._judging() if isinstance(event, CellFinished | CellFailed) else nullcontext():
                watcher(event)

        return watch

    @contextmanager
    def _judging(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._outside_cells += TimeSpent(judging=milliseconds(time.monotonic() - began))


def _taken_up(plan: RunPlan) -> dict[str, JsonValue]:
    """What ``run.json`` says already, and that the run goes on."""
    content: dict[str, JsonValue] = json.loads((plan.directory / RUN_FILE).read_text(encoding="utf-8"))
    before = content.get("resumed")
    again: JsonValue = {
        "at": _now(),
        "command": [*without_secret_flags(plan.command)],
        "cells": [cell.id for cell in plan.cells],
    }
    return {
        **content,
        "finished_at": None,
        "interrupted": None,
        "resumed": [*(before if isinstance(before, list) else []), again],
    }


def _describe(plan: RunPlan) -> dict[str, JsonValue]:
    return {
        "format": 1,
        "run": plan.run_id,
        "sleepwake": __version__,
        "started_at": _now(),
        "finished_at": None,
        "interrupted": None,
        "command": [*without_secret_flags(plan.command)],
        "options": dict(plan.options),
        "sources": dict(plan.sources),
        "runtime": {"name": plan.runtime_name, "why": plan.runtime_reason},
        "model": {
            "name": plan.model.served_name,
            "source": plan.model.source,
            "checksum": plan.model.checksum,
            "bytes_on_disk": plan.model.bytes_on_disk,
        },
        "fault": plan.fault,
        **_shard(plan),
        "extra_args": [*without_secret_flags(plan.extra_args)],
        "machine": _machine(),
        "cells": {cell.id: {**describe_cell(cell), "sources": _sources(plan, cell)} for cell in plan.cells},
    }


def _shard(plan: RunPlan) -> dict[str, JsonValue]:
    """What :mod:`harness.merge` needs to know."""
    if plan.shard is None:
        return {}
    return {"shard": {"index": plan.shard.index, "of": plan.shard.of, "matrix": [*plan.matrix]}}


def describe_cell(cell: Cell) -> dict[str, JsonValue]:
    """What ``run.json`` says of a cell: all that decides what is sent, and no secret."""
    scenario = cell.scenario.model_dump(mode="json")
    for arm in scenario["arms"].values():
        arm["args"] = [*without_secret_flags(arm["args"])]
        arm["env"] = {name: HIDDEN if is_secret_name(name) else value for name, value in arm["env"].items()}
    texts = json.dumps([[prompt.id, prompt.text] for prompt in (*cell.prompts, *cell.held_out)])
    return {
        "scenario": scenario,
        "scenario_file": as_asked_for(cell.scenario_path),
        "arm": cell.arm_name,
        "prompts_checksum": f"sha256:{hashlib.sha256(texts.encode()).hexdigest()}",
    }


def _sources(plan: RunPlan, cell: Cell) -> dict[str, JsonValue]:
    """Where the cell's own values came from, and those of the vLLM flags that were asked for."""
    asked = dict.fromkeys(_flag_names(plan.extra_args), plan.sources.get("vllm_args", "command line"))
    flags = {**asked, **dict.fromkeys(_flag_names(cell.arm.args), SCENARIO)}
    return {**key_sources(cell.scenario), "flags": {f"--{name}": source for name, source in flags.items()}}


def _flag_names(words: Iterable[str]) -> list[str]:
    return [name for word in words if (name := flag_name(word)) is not None]


def _machine() -> dict[str, JsonValue]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "python": sys.version.split()[0],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
