"""The scenarios of one pytest session, known and run by a process of its own.

Tests share their process with the code they test, its settings and whatever it calls ``harness``; a run
needs none of that.  The process takes one order as a line of JSON and answers with one; what it tells
people while it works goes to standard error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


class ScenarioRefusedError(Exception):
    """What is wrong with a scenario file, with its place and a remedy."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One scenario on one arm."""

    id: str
    arm: str
    default: bool
    file: str


class Outcome(TypedDict, total=False):
    """What became of a cell; clean where nothing is said."""

    failure: str
    skipped: str


class Session:
    """Asks the other process: what a file holds, and what becomes of all cells together."""

    def __init__(self, options: Mapping[str, object], files: Sequence[Path]) -> None:
        self.report: str | None = None
        """Where the report is, once there is one."""
        self._options = options
        self._files = files
        self._listed: Mapping[str, _ListedFile] | None = None
        self._planned: Sequence[Cell] = ()
        self._outcomes: Mapping[str, Outcome] | None = None

    def cells_of(self, file: Path) -> list[Cell]:
        """The cells of one scenario file; the first call asks for those of all files.

        Raises:
            ScenarioRefusedError: the file is wrong.
        """
        if self._listed is None:
            answer = _ask({"list": [*map(str, self._files)]})
            if "refused" in answer:
                raise ScenarioRefusedError(answer["refused"])
            self._listed = answer["files"]
        listed = self._listed[str(file)]
        if "refused" in listed:
            raise ScenarioRefusedError(listed["refused"])
        return [Cell(**cell, file=str(file)) for cell in listed["cells"]]

    def plan(self, cells: Sequence[Cell]) -> None:
        """Say which cells are going to be run."""
        self._planned = tuple(cells)

    def outcome_of(self, cell: Cell) -> Outcome:
        """What became of ``cell``; the first call runs all of them.

        Only the whole run has the last word on a cell: one that shares its server may be found damaged by
        the next.
        """
        if self._outcomes is None:
            files = list(dict.fromkeys(each.file for each in self._planned))
            names = [each.id for each in self._planned]
            answer = _ask({"run": files, "cells": names, "options": self._options})
            self.report = answer.get("report")
            refused = answer.get("refused")
            self._outcomes = dict.fromkeys(names, Outcome(failure=refused)) if refused else answer["outcomes"]
        return self._outcomes.get(cell.id, Outcome(failure=f"{cell.id} was not run"))


class ServerRefusedError(Exception):
    """Why there is no server, and what to do."""


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A vLLM server that a session has."""

    url: str
    """``http://host:port``, without a trailing slash; requests go to ``/v1`` under it."""
    model: str
    """The name under which requests ask for its model."""


@contextmanager
def serving(options: Mapping[str, object]) -> Iterator[RunningServer]:
    """Have a server started as the options say; it ends with the block.

    Raises:
        ServerRefusedError: there is none.
    """
    with _session_process() as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101 - both are pipes
        process.stdin.write(json.dumps({"serve": options}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        said = json.loads(line) if line else {"refused": f"sleepwake ended with {process.wait()}"}
        if "refused" in said:
            raise ServerRefusedError(said["refused"])
        try:
            yield RunningServer(**said)
        finally:
            process.stdin.close()
            process.wait()


def _session_process() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sleepwake._session_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class _ListedCell(TypedDict):
    id: str
    arm: str
    default: bool


class _ListedFile(TypedDict, total=False):
    refused: str
    cells: list[_ListedCell]


class _Answer(TypedDict, total=False):
    refused: str
    files: dict[str, _ListedFile]
    outcomes: dict[str, Outcome]
    report: str


def _ask(order: Mapping[str, object]) -> _Answer:
    """Give one order.  The process ends its run, and cleans up, when this one is gone or interrupted."""
    with _session_process() as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101 - both are pipes
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        lines = process.stdout.read().splitlines()
    if not lines:
        return {"refused": f"sleepwake ended with {process.returncode} and said nothing more"}
    answer: _Answer = json.loads(lines[-1])
    return answer
