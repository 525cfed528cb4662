"""The inprocess runtime: an ``LLM`` or ``AsyncLLM`` in a child process that holds it as an RL framework does.

What is called are the methods of its class, such as ``LLM.sleep``, which the HTTP endpoints go past.  An
``LLM`` is taken wherever it can do what the script asks; else an ``AsyncLLM``, whose methods vLLM's own
server calls as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.version import Version

from harness.errors import RuntimeUnavailableError
from harness.servers.base import Engine, RuntimeName, ServerSpec
from harness.servers.flags import PARALLEL_SIZES, flag_value
from harness.servers.process.runtime import STOP_GRACE_S, ProcessRuntime, installed_vllm

HOLDER = (sys.executable, "-P", "-m", "sleepwake._engine_holder")

SINCE = "0.32.0"
"""The first release whose front end the holder knows."""


class InprocessRuntime(ProcessRuntime):
    """Runs the vLLM of this environment in a program that holds it."""

    name: RuntimeName = "inprocess"

    def __init__(
        self,
        *,
        engine_command: tuple[str, ...] = HOLDER,
        engine: Engine | None = None,
        cache: Path | None = None,
        stop_grace_s: float = STOP_GRACE_S,
        keep: bool = False,
    ) -> None:
        super().__init__(
            engine_command=engine_command, engine=engine, cache=cache, stop_grace_s=stop_grace_s, keep=keep
        )

    def check_available(self) -> None:
        """Return when this machine can run it: as the process runtime, and with a release that it knows.

        Raises:
            RuntimeUnavailableError: it cannot.
        """
        super().check_available()
        installed = installed_vllm()
        if self._engine_command == HOLDER and (installed is None or Version(installed) < Version(SINCE)):
            raise RuntimeUnavailableError(
                f"the inprocess runtime holds vLLM from {SINCE} on, here is {installed or 'none'}",
                remedy="install sleepwake[cpu] or sleepwake[gpu], or use --runtime process",
            )

    def _command_for(self, spec: ServerSpec) -> tuple[str, ...]:
        return (*self._engine_command, "--hold", held_class(spec))


def held_class(spec: ServerSpec) -> str:
    """Which of vLLM's classes is held: an ``LLM`` refuses several replicas, and lacks some methods."""
    replicas = flag_value(spec.args, *PARALLEL_SIZES["data"]) or "1"
    return "AsyncLLM" if spec.needs_async or replicas != "1" else "LLM"
