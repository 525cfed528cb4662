"""Chooses the runtime: the best one the machine has, or the one that was asked for, and says why."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UsageError
from harness.servers.base import Runtime
from harness.servers.process import ProcessRuntime


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A runtime, and in words why it was taken."""

    runtime: Runtime
    reason: str


def choose_runtime(
    *,
    runtime: str = "auto",
    vllm: str | None = None,
    image: str | None = None,
    endpoint: str | None = None,
) -> Choice:
    """Choose the runtime that ``--runtime``, ``--vllm``, ``--image`` and ``--endpoint`` ask for.

    Raises:
        UsageError: the options contradict each other.
        RuntimeUnavailableError: the machine cannot run what was asked for.
    """
    if runtime not in ("auto", "process") or vllm or image or endpoint:
        raise UsageError("only the process runtime is here", remedy="leave the option out")
    chosen = ProcessRuntime()
    chosen.check_available()
    return Choice(runtime=chosen, reason="asked for" if runtime == "process" else "no Docker Engine answers")


def sweep_all() -> list[str]:
    """Remove what dead harnesses left behind, whichever runtime it came from; say what, a sentence each."""
    return ProcessRuntime().sweep()
