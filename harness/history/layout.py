"""Where things are in a run directory."""

from __future__ import annotations

from pathlib import Path

RUN_FILE = "run.json"
"""Resolved configuration, versions, machine."""
CELLS_FOLDER = "cells"
"""One folder a cell, named after it."""
HISTORY_FILE = "history.jsonl"
SERVER_LOG = "server.log"
LATEST_LINK = "latest"
"""Beside the run directories; points at the newest."""


def cell_folder(run_directory: Path, cell: str) -> Path:
    """Where the history and the server's log of ``cell`` are."""
    return run_directory / CELLS_FOLDER / cell
