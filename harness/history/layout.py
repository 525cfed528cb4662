"""Where things are in a run directory."""

from __future__ import annotations

import re
from pathlib import Path

RUN_FILE = "run.json"
"""Resolved configuration, versions, machine."""
CELLS_FOLDER = "cells"
"""One folder a cell, named after it."""
HISTORY_FILE = "history.jsonl"
SERVER_LOG = "server.log"
PINNED_LINK = "pinned"
"""The run that later ones are held against."""
LATEST_LINK = "latest"
"""Beside the run directories; points at the newest."""


BASELINE_FOLDER = "baseline-{number}"
"""What a watch holds wake-ups against: a history of its own, and no cell."""


def cell_folder(run_directory: Path, cell: str) -> Path:
    """Where the history and the server's log of ``cell`` are."""
    return run_directory / CELLS_FOLDER / cell


_EARLIER = re.compile(r"(?:history|server)\.(\d+)\.(?:jsonl|log)")


def earlier_histories(cell_directory: Path) -> list[Path]:
    """The histories of attempts at a cell before the last one, oldest first: ``history.1.jsonl``, ..."""
    found = (_earlier(cell_directory, HISTORY_FILE, number) for number in _earlier_numbers(cell_directory))
    return [path for path in found if path.exists()]


def set_aside(cell_directory: Path) -> None:
    """Make room for another attempt at a cell: history and log of the last one are renamed, never lost.

    Raises:
        OSError: they cannot be renamed.
    """
    number = max(_earlier_numbers(cell_directory), default=0) + 1
    for name in (SERVER_LOG, HISTORY_FILE):
        path = cell_directory / name
        if path.exists():
            path.rename(_earlier(cell_directory, name, number))


def _earlier(cell_directory: Path, name: str, number: int) -> Path:
    path = cell_directory / name
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def _earlier_numbers(cell_directory: Path) -> list[int]:
    matches = (_EARLIER.fullmatch(path.name) for path in cell_directory.glob("*.*.*"))
    return sorted({int(match[1]) for match in matches if match})
