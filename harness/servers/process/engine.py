"""One engine process of the process runtime: its descendants, its log, its memory and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from harness.errors import ServerError
from harness.redaction import secret_values
from harness.servers import logs
from harness.servers.base import Activity, BaseServer, MachineTimes, Memory, ServerFacts, ServerSpec
from harness.servers.gpu import gpu_memory
from harness.servers.machine import machine_times
from harness.servers.process import launch
from harness.servers.process.leftovers import Records, ServerRecord
from harness.servers.processes import (
    MARKER,
    ProcessId,
    activity,
    end,
    family,
    listens_on,
    resident_by_process,
)

_REAP_S = 5.0


class EngineProcess(BaseServer):
    """A :class:`~harness.servers.base.Server` that is a child of the harness."""

    def __init__(
        self,
        *,
        spec: ServerSpec,
        facts: ServerFacts,
        argv: Sequence[str],
        env: Mapping[str, str],
        records: Records,
        outlives_harness: bool = False,
    ) -> None:
        super().__init__(facts)
        self._port = int(facts.base_url.rpartition(":")[2])
        self._argv = argv
        self._records = records
        self._outlives_harness = outlives_harness
        self._record = ServerRecord.fresh(run_id=spec.run_id, cell=spec.cell)
        self._environment = {
            **os.environ,
            **env,
            MARKER: self._record.marker,
            # vLLM renames its processes; without this the new name overwrites the marker.
            "SPT_NOENV": "1",
            # What the engine would otherwise leave in the temporary folder when it is killed.
            "VLLM_RPC_BASE_PATH": str(self._record.scratch),
        }
        self._secrets = secret_values(self._environment)
        self._log_path = spec.log_path
        self._log_start = 0
        self._kills_before = _out_of_memory_kills()
        self._child: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start the engine in a session of its own, remembered before it exists.

        Raises:
            StorageError: The log or the record cannot be written.
        """
        self._records.write(self._record)
        with logs.open_log(self._log_path) as log:
            self._log_start = log.tell()
            # The kernel ends the engine when the thread that starts it ends: not a worker thread.
            harness = 0 if self._outlives_harness else os.getpid()
            self._child = subprocess.Popen(  # noqa: S603  (running the given engine is the purpose)
                [sys.executable, "-I", "-S", launch.__file__, str(harness), *self._argv],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.facts = replace(self.facts, identity=str(self._child.pid))
        self.remember_family()

    def remember_family(self) -> None:
        """Write down which processes the engine has by now."""
        self._record = self._record.model_copy(update={"processes": tuple(sorted(self._family()))})
        self._records.write(self._record)

    async def death(self) -> str | None:
        """None while it runs; afterwards its exit code or the signal that killed it."""
        if self._child is None or (code := self._child.poll()) is None:
            return None
        if code >= 0:
            return f"it exited with code {code}"
        killed = f"it was killed by {signal.Signals(-code).name}"
        if _out_of_memory_kills() > self._kills_before:
            return f"{killed}; the kernel's out-of-memory killer was at work meanwhile"
        return killed

    async def intruder(self) -> str | None:
        """Say that somebody else answers on our port; None when it is the engine."""
        everyone = await anyio.to_thread.run_sync(self._family)
        if any(listens_on(process.pid, self._port) for process in everyone):
            return None
        return f"another program answers on port {self._port}: it took the port before the server could"

    async def measure_memory(self) -> Memory:
        """Measure every process of the engine, and its GPUs."""
        per_process = await anyio.to_thread.run_sync(lambda: resident_by_process(self._pids()))
        visible = self._environment.get("CUDA_VISIBLE_DEVICES")
        device = (
            await gpu_memory(visible.split(",") if visible else None) if self.facts.engine == "gpu" else None
        )
        resident = sum(per_process.values()) if per_process else None
        return Memory(resident=resident, device=device, per_process=per_process)

    async def look_at_activity(self) -> Activity | None:
        """Look at every process of the engine."""
        return await anyio.to_thread.run_sync(lambda: activity(self._pids()))

    async def look_at_machine(self) -> MachineTimes | None:
        """Look at this machine and at every process of the engine."""
        return await anyio.to_thread.run_sync(lambda: machine_times(self._pids()))

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of what this server wrote, secrets replaced."""
        return logs.tail(self._log_path, lines, start=self._log_start, secrets=self._secrets)

    def keep(self) -> None:
        """Leave it running: sweeps spare it from now on, unless they are asked not to."""
        self._record = self._record.model_copy(update={"kept": True})
        self.remember_family()

    def stop(self, grace_s: float) -> None:
        """End all its processes, in order first; forget it once nothing is left.  Blocks.

        Raises:
            ServerError: Some of its processes cannot be ended.
        """
        survivors = end(self._family, grace_s=grace_s)
        if self._child is not None and not survivors:
            self._child.wait(_REAP_S)
        logs.scrub(self._log_path, self._secrets)
        if survivors:
            pids = ", ".join(str(process.pid) for process in sorted(survivors))
            raise ServerError(
                f"the processes {pids} of the server cannot be ended",
                log_tail=self.log_tail(),
                remedy="look at their state with `ps`; `sleepwake clean` tries again",
            )
        self._records.forget(self._record)

    def _family(self) -> set[ProcessId]:
        return family(self._record.processes, marker=self._record.marker)

    def _pids(self) -> list[int]:
        return [each.pid for each in sorted(self._family())]


def _out_of_memory_kills() -> int:
    """Return how often the kernel's out-of-memory killer struck on this machine since it booted."""
    try:
        counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(counters.get("oom_kill", 0))
