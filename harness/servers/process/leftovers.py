"""Remembers which processes were started, so that the next run can end what a killed one left.

One small file a server, written before the server is started.  Only a server whose harness
is dead is touched, and only processes that are its own for certain.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.history.files import replace_file, storing
from harness.servers.owner import Owner, Place
from harness.servers.processes import ProcessId, end, family


class ServerRecord(BaseModel):
    """What is remembered of one server; ``kept`` is one that was left running on request.

    Every process of the server has the ``marker`` in its environment.  Of its processes, as far as they were
    seen, the first is its root.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    marker: str = Field(pattern="^[0-9a-f]{32}$")
    owner: Owner
    run_id: str
    cell: str
    processes: tuple[ProcessId, ...] = ()
    kept: bool = False

    @classmethod
    def fresh(cls, *, run_id: str, cell: str) -> ServerRecord:
        """Return the record of a server that this process is about to start."""
        return cls(marker=uuid.uuid4().hex, owner=Owner.this_process(), run_id=run_id, cell=cell)

    @property
    def scratch(self) -> Path:
        """A folder for the server's sockets, gone with it; a short path, as sockets demand."""
        return Path(tempfile.gettempdir()) / f"sleepwake-{self.marker}"


class Records:
    """The folder of server records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, record: ServerRecord) -> None:
        """Write or replace a record, whole or not at all, and make its scratch folder.

        Raises:
            StorageError: It cannot be written, so the server must not be started.
        """
        remedy = "free disk space, or point SLEEPWAKE_CACHE at a folder you can write to"
        with storing(self.folder, cannot="remember the server to clean up", remedy=remedy):
            self.folder.mkdir(parents=True, exist_ok=True)
            record.scratch.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path(record), record.model_dump_json(), remedy=remedy)

    def forget(self, record: ServerRecord) -> None:
        """Remove a record and the scratch folder that goes with it."""
        shutil.rmtree(record.scratch, ignore_errors=True)
        self._path(record).unlink(missing_ok=True)

    def sweep(self, *, grace_s: float, kept_too: bool = False) -> list[str]:
        """End the servers whose sleepwake is no longer running; return one sentence for each thing done.

        Those that were left running on request are spared unless ``kept_too``.
        """
        return [
            sentence
            for path in sorted(self.folder.glob("*.json"))
            for sentence in self._sweep_one(path, grace_s, kept_too=kept_too)
        ]

    def _path(self, record: ServerRecord) -> Path:
        return self.folder / f"{record.marker}.json"

    def _sweep_one(self, path: Path, grace_s: float, *, kept_too: bool) -> list[str]:
        try:
            record = ServerRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return []  # another sweep was faster
        except ValidationError:
            return [f"left {path} alone: this version of sleepwake cannot read it"]
        if not record.owner.is_dead():
            return []
        if record.kept and not kept_too and family(_known(record), marker=record.marker):
            return []
        return self._end(record, grace_s)

    def _end(self, record: ServerRecord, grace_s: float) -> list[str]:
        known = _known(record)
        found = family(known, marker=record.marker)
        survivors = end(lambda: family(known, marker=record.marker), grace_s=grace_s)
        whose = f"of cell {record.cell}, run {record.run_id}, whose sleepwake is no longer running"
        if survivors:
            pids = ", ".join(str(process.pid) for process in sorted(survivors))
            return [f"could not end the processes {pids} {whose}"]
        self.forget(record)
        return [f"ended {len(found)} processes {whose}"] if found else []


def _known(record: ServerRecord) -> tuple[ProcessId, ...]:
    """The processes that were seen, where their ids still mean something."""
    return record.processes if record.owner.place == Place.here() else ()
