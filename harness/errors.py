"""Every error the harness raises on purpose, drawn as a tree.

.. code-block:: text

    SleepwakeError                  what went wrong, and what to do about it
    ├── UsageError                  exit 2: wrong option, name or file, found before anything starts
    │   ├── ScenarioError           a scenario file, with file:line:column
    │   └── HistoryError            a run directory that is missing or cannot be read
    ├── InfrastructureError         exit 4: never a verdict about the engine
    │   ├── ModelError              the model could not be provided
    │   ├── ImageError              an image could not be built or pulled
    │   ├── RuntimeUnavailableError the machine cannot run what was asked for
    │   ├── EngineFailedError       an engine that its user holds raised instead of answering
    │   ├── NodeLostError           a machine of a cluster is gone, and the cell with it
    │   ├── ServerError             a server that is not what it should be, with the end of its log
    │   │   ├── ServerBootError     it died or did not become ready in time
    │   │   │   └── FlagsRefusedError exit 2: vLLM does not accept its flags
    │   │   ├── ServerDiedError     it was ready and is gone
    │   │   └── ServerNotFreshError it served another cell, and no longer answers as before that
    │   └── StorageError            the history could not be written (disk full, permission)
    └── InterruptedRunError         exit 130: the user stopped the run

Anything else that escapes is a defect of the harness: it shows its traceback and ends with exit code 70.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What the commands ``run``, ``check`` and ``make regress`` return."""

    CLEAN = 0
    CORRUPT_OR_DEGRADED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INFRASTRUCTURE = 4
    DEFECT = 70
    """Of sysexits.h: the program itself is wrong."""
    INTERRUPTED = 130


class SleepwakeError(Exception):
    """What went wrong (``cause``) and what the reader can do (``remedy``)."""

    exit_code: ExitCode = ExitCode.INFRASTRUCTURE

    def __init__(self, cause: str, *, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}\n  -> {self.remedy}" if self.remedy else self.cause


class UsageError(SleepwakeError):
    """A wrong option, name or file: nothing has been started."""

    exit_code = ExitCode.USAGE


class ScenarioError(UsageError):
    """A scenario file that cannot be used; ``location`` is ``file:line:column``."""

    def __init__(self, cause: str, *, location: str, remedy: str = "") -> None:
        super().__init__(f"{location}: {cause}", remedy=remedy)
        self.location = location


class HistoryError(UsageError):
    """A run directory that is missing, or whose history cannot be understood."""

    def __init__(self, cause: str, *, path: Path, remedy: str = "") -> None:
        super().__init__(f"{path}: {cause}", remedy=remedy)
        self.path = path


class InfrastructureError(SleepwakeError):
    """The machine, not the engine under test, is in the way."""


class ModelError(InfrastructureError):
    """The model could not be found, converted or checked."""


class ImageError(InfrastructureError):
    """A container image could not be built or pulled."""


class RuntimeUnavailableError(InfrastructureError):
    """The machine cannot run what was asked for (no Docker, no vLLM, no GPU)."""


class EngineFailedError(InfrastructureError):
    """An engine that its user's process holds raised instead of answering, or that process is gone."""


class NodeLostError(InfrastructureError):
    """A machine of a cluster is gone in the middle of a cell, more often than it is tried again."""


class ServerError(InfrastructureError):
    """A server is not in the state it was asked to be; carries the end of its log."""

    def __init__(self, cause: str, *, log_tail: str = "", remedy: str = "") -> None:
        super().__init__(cause, remedy=remedy)
        self.log_tail = log_tail


class ServerBootError(ServerError):
    """The server died while starting, or was not ready before its deadline."""


class FlagsRefusedError(ServerBootError):
    """vLLM does not accept the flags it was given: a wrong option, found by the one who knows them all."""

    exit_code = ExitCode.USAGE


class ServerDiedError(ServerError):
    """The server had been ready and is gone."""


class ServerNotFreshError(ServerError):
    """A server that served another cell no longer answers as when it was fresh."""


class StorageError(InfrastructureError):
    """The history could not be written, for example because the disk is full."""


class InterruptedRunError(SleepwakeError):
    """The user, or the system, asked the run to stop."""

    exit_code = ExitCode.INTERRUPTED


def did_you_mean(wrong: str, known: Iterable[str], *, otherwise: str, quoted: str = "{!r}") -> str:
    """A remedy for a slip of the fingers: the nearest that is ``known``, ``otherwise`` where none is near."""
    nearest = difflib.get_close_matches(wrong, list(known), n=1)
    return f"did you mean {quoted.format(nearest[0])}?" if nearest else otherwise
