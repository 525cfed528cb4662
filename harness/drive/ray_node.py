"""What runs on a node of a cluster: one cell, whose history is handed out while it is written.

Knows nothing of Ray: :mod:`harness.drive.ray_executor` makes an actor of it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from harness import __version__
from harness.drive.cell import EarlyLooks, run_cell
from harness.drive.job import CellJob
from harness.errors import ModelError, RuntimeUnavailableError, SleepwakeError, UsageError
from harness.history.events import Event
from harness.models.model import Model, provide_model
from harness.servers.base import Runtime

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every node must have, the same as the machine that asks."""

    version: str
    model: Model
    """As the asking machine has it."""
    model_reference: str | None
    """What names it, on any machine; None for the default model."""
    fault_file: Path | None
    runtime_of: Callable[[], Runtime]
    """Gives the runtime, from what the node has."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a node cannot do what it is asked to; an error of ours, in a form that travels."""

    error: str
    cause: str
    remedy: str

    @classmethod
    def of(cls, error: SleepwakeError) -> Refusal:
        """The same, without what only means something in this process."""
        return cls(error=type(error).__name__, cause=error.cause, remedy=error.remedy)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The next lines of the history, each an event as JSON."""

    lines: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class LogPiece:
    """The next piece of the server's log, secrets already replaced."""

    content: bytes


Delivery = Lines | LogPiece | Refusal


def refusal_of(setting: Setting) -> Refusal | None:
    """Why this node lacks something of ``setting``; None where it lacks nothing."""
    try:
        _model_here(setting)
    except SleepwakeError as error:
        return Refusal.of(error)
    return None


class CellOnNode:
    """One cell, in a process that has been given the GPUs it may use."""

    def __init__(self, job: CellJob, setting: Setting, looks: EarlyLooks) -> None:
        self._job = job
        self._setting = setting
        self._looks = looks
        self._runtime: Runtime | None = None
        self._scope: anyio.CancelScope | None = None
        self._stopped = False

    async def begin(self) -> Refusal | None:
        """Make sure that the node has what the cell needs; nothing is started yet."""
        try:
            model = await anyio.to_thread.run_sync(_model_here, self._setting)
            self._runtime = await anyio.to_thread.run_sync(self._setting.runtime_of)
            await anyio.to_thread.run_sync(self._runtime.sweep)
        except SleepwakeError as error:
            return Refusal.of(error)
        self._job = replace(self._job, model=model)
        return None

    async def run(self) -> AsyncIterator[Delivery]:
        """Run the cell; yield what it records as soon as it does, and its server's log at the end."""
        with tempfile.TemporaryDirectory(prefix="sleepwake-cell-") as folder:
            job = replace(self._job, directory=Path(folder))
            events: asyncio.Queue[Event | None] = asyncio.Queue()
            running = asyncio.create_task(self._run(job, events))
            ended = False
            while not ended:
                batch = [await events.get()]
                while not events.empty():
                    batch.append(events.get_nowait())
                ended = batch[-1] is None
                yield Lines(lines=tuple(event.model_dump_json().encode() for event in batch if event))
            if refusal := await running:
                yield refusal
            if job.spec.log_path.exists():
                with job.spec.log_path.open("rb") as log:
                    yield LogPiece(content=log.read(_PIECE_BYTES))
                    while content := log.read(_PIECE_BYTES):
                        yield LogPiece(content=content)

    async def stop(self) -> None:
        """Let the cell end as an interrupted one does: its server is stopped in order."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, job: CellJob, events: asyncio.Queue[Event | None]) -> Refusal | None:
        assert self._runtime is not None, "begin comes first"  # noqa: S101
        try:
            with anyio.CancelScope() as self._scope:
                if self._stopped:
                    self._scope.cancel()
                await run_cell(job, self._runtime, watcher=events.put_nowait, looks=self._looks)
        except SleepwakeError as error:
            return Refusal.of(error)
        finally:
            events.put_nowait(None)
        return None


def _model_here(setting: Setting) -> Model:
    """The model as this node has it.

    Raises:
        RuntimeUnavailableError: another version of sleepwake is installed here, or the fault is not here.
        ModelError: there is no such model here, or it is another one.
    """
    if setting.version != __version__:
        raise RuntimeUnavailableError(
            f"sleepwake {__version__} is installed, but the run was started with {setting.version}",
            remedy="install the same version on every machine",
        )
    if setting.fault_file is not None and not setting.fault_file.is_file():
        raise RuntimeUnavailableError(
            f"{setting.fault_file} is not there",
            remedy="put the fault's file in the same place on every machine",
        )
    try:
        model = provide_model(setting.model_reference, dtype=setting.model.dtype)
    except UsageError as error:
        raise ModelError(error.cause, remedy="put the model in the same place on every machine") from error
    if model.checksum != setting.model.checksum:
        raise ModelError(
            f"{model.location} holds a different model from the machine that started the run",
            remedy="put the same files on every machine",
        )
    return model
