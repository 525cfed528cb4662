"""What a server is owed: written down before it is touched, struck out once it is as it was.

One small file for each cell that is at work on a server, beside the records of our own servers.  It
outlives ``kill -9``, so that the next start can give back what a dead harness could not.  It holds no secret.
Beside it lies a lock that the harness holds while it lives: of a harness in another container, which has the
folder on a volume, nothing else can be seen.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.history.files import replace_file, storing
from harness.models.cache import cache_directory
from harness.scenario.engine_state import EngineState
from harness.servers.owner import Owner

_REMEDY = "free disk space, or point SLEEPWAKE_CACHE at a folder you can write to"


class Owed(BaseModel):
    """What may have been done to a server, and by whom: whether it may be asleep, paused, ...

    ``weights`` says whether others than its own may be loaded, or none, and ``own_weights`` the path these
    are loaded from again; None: from where it loaded them last.  ``started`` says since when the process runs
    to which this was done, in seconds since 1970: another one is owed nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    marker: str = Field(pattern="^[0-9a-f]{32}$", default_factory=lambda: uuid.uuid4().hex)
    owner: Owner = Field(default_factory=Owner.this_process)
    endpoint: str
    run_id: str
    cell: str
    started: float | None = None
    asleep: bool = False
    paused: bool = False
    weights: bool = False
    own_weights: str | None = None
    adapters: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there is something to give back."""
        return bool(self.asleep or self.paused or self.weights or self.adapters)

    def and_after(self, state: EngineState, *, own_weights: str | None) -> Self:
        """What is owed besides, if the engine comes to be like ``state``."""
        return self.model_copy(
            update={
                "asleep": self.asleep or bool(state.asleep or state.levels),
                "paused": self.paused or state.paused,
                "weights": self.weights or _lacks_own(state),
                "own_weights": own_weights if state.weights != "own" else self.own_weights,
                "adapters": tuple(dict.fromkeys((*self.adapters, *state.adapters))),
            }
        )

    def settled(self, state: EngineState) -> Self:
        """What is owed still, once a call has left the engine like ``state``.

        What a look shows when the server is given back stays: whether it rests, and what is loaded.
        """
        return self.model_copy(update={"weights": _lacks_own(state)})

    @property
    def mended_by(self) -> str:
        """The commands that give it back by hand, in one line."""
        commands = []
        if self.asleep:
            commands.append(curl(self.endpoint, "/wake_up"))
        if self.paused and not self.asleep:
            commands.append(curl(self.endpoint, "/resume"))
        if self.weights:
            path = f', "kwargs": {{"weights_path": "{self.own_weights}"}}' if self.own_weights else ""
            commands.append(curl(self.endpoint, "/collective_rpc", f'{{"method": "reload_weights"{path}}}'))
            commands.append(curl(self.endpoint, "/reset_prefix_cache"))
        commands += [
            curl(self.endpoint, "/v1/unload_lora_adapter", f'{{"lora_name": "{name}"}}')
            for name in self.adapters
        ]
        return " && ".join(commands)


class Ledger:
    """The folder of what is owed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_directory() / "attached"
        self._held: dict[str, int] = {}

    def write(self, owed: Owed) -> None:
        """Write or replace an entry, whole or not at all.

        Raises:
            StorageError: it cannot be written, so the server must not be touched.
        """
        with storing(self._folder, cannot="remember what the server is owed", remedy=_REMEDY):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._hold(owed)
        replace_file(self.path_of(owed), owed.model_dump_json(), remedy=_REMEDY)

    def forget(self, owed: Owed) -> None:
        """Strike an entry out."""
        self.path_of(owed).unlink(missing_ok=True)
        self._lock(owed).unlink(missing_ok=True)
        if (handle := self._held.pop(owed.marker, None)) is not None:
            os.close(handle)

    def owner_lives(self, owed: Owed) -> bool | None:
        """Whether the harness that owes it may still be at work; None where that cannot be told from here."""
        if (dead := owed.owner.is_dead()) is not None:
            return not dead
        try:
            handle = os.open(self._lock(owed), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        finally:
            os.close(handle)
        return False

    def entries(self, endpoint: str | None = None) -> list[Owed]:
        """All entries, or those of one server; what this version cannot read is left alone."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(Owed.model_validate_json(path.read_bytes()))
            except (FileNotFoundError, ValidationError):
                continue
        return [each for each in found if endpoint is None or each.endpoint == endpoint]

    def path_of(self, owed: Owed) -> Path:
        """The file of an entry."""
        return self._folder / f"{owed.marker}.json"

    def _lock(self, owed: Owed) -> Path:
        return self.path_of(owed).with_suffix(".lock")

    def _hold(self, owed: Owed) -> None:
        """Show to whoever cannot see this process that it lives, until it forgets the entry or ends.

        On a volume that knows no locks there is none: then nobody elsewhere can tell.
        """
        if owed.marker in self._held:
            return
        lock = self._lock(owed)
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            with suppress(OSError):  # whoever finds it could not tell either
                lock.unlink()
        else:
            self._held[owed.marker] = handle


def _lacks_own(state: EngineState) -> bool:
    """Whether the model's own weights are not there, or not all of them."""
    return state.weights_lost or state.updating or state.weights != "own"


def curl(endpoint: str, path: str, body: str | None = None) -> str:
    """The command that makes one call by hand; a key has to be added by whoever has it."""
    sent = f" -H 'Content-Type: application/json' -d {shlex.quote(body)}" if body else ""
    return f"curl -fsS -X POST {shlex.quote(endpoint + path)}{sent}"
