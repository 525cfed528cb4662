"""Which harness a server belongs to, so that another one can tell whether that is dead."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.servers.processes import ProcessId, identify, is_running


class Place(BaseModel):
    """Where process ids mean something: one boot of one machine, one process namespace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    boot: str
    namespace: str

    @classmethod
    def here(cls) -> Place:
        """Return the place this process runs in."""
        return cls(
            host=socket.gethostname(),
            boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            namespace=str(Path("/proc/self/ns/pid").readlink()),
        )


class Owner(BaseModel):
    """A harness, told apart from every other process there ever was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: Place
    process: ProcessId

    @classmethod
    def this_process(cls) -> Owner:
        """Return the harness that is running now."""
        process = identify(os.getpid())
        assert process is not None, "a running process has an identity"  # noqa: S101
        return cls(place=Place.here(), process=process)

    def is_dead(self) -> bool | None:
        """Whether it is gone for certain; None when it cannot be seen from here."""
        here = Place.here()
        if self.place.host != here.host:
            return None
        if self.place.boot != here.boot:
            return True
        if self.place.namespace != here.namespace:
            return None
        return not is_running(self.process)
