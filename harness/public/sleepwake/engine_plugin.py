"""What vLLM calls in each of its processes; does nothing, and imports nothing, unless it is asked to.

Asked is by an environment variable of ours: :mod:`harness.engine_plugin` says which.
"""

from __future__ import annotations

import os

from sleepwake._own import use_own_harness

_ASKING = ("SLEEPWAKE_CPU_SLEEP", "SLEEPWAKE_DISCARD", "SLEEPWAKE_FAULT", "SLEEPWAKE_WEIGHT_TRANSFER")


def platform() -> str | None:
    """Name the platform class vLLM shall use instead of its own; for ``vllm.platform_plugins``."""
    if not _is_asked():
        return None
    use_own_harness()
    from harness import engine_plugin

    return engine_plugin.platform()


def load() -> None:
    """Plant the faults that the environment names; for ``vllm.general_plugins``."""
    if _is_asked():
        use_own_harness()
        from harness import engine_plugin

        engine_plugin.load()


def _is_asked() -> bool:
    return any(name in os.environ for name in _ASKING)
