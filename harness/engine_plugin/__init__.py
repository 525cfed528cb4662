"""What runs inside vLLM's processes: a sleep mode for CPU engines, planted faults, weights from files.

vLLM finds the two functions below through entry points and calls them in each of its processes.  They do
nothing unless the environment asks for it, so having this package installed changes no engine:

===============================  ================================================================
``SLEEPWAKE_CPU_SLEEP=1``        gives a CPU engine the sleep mode that vLLM has on GPUs only
``SLEEPWAKE_DISCARD``            what discarded memory holds: ``zero`` (default), ``poison``, ``stale``
``SLEEPWAKE_FAULT``              ``NAME[,NAME...]`` or ``/path/FILE.py:function``: damage to plant
``SLEEPWAKE_WEIGHT_TRANSFER=1``  lets ``--weight-transfer-config '{"backend": "sleepwake"}'`` take
                                 new weights from the files of a folder
===============================  ================================================================

This package is copied into containers that have one vLLM version or another and nothing else of the harness:
it imports vllm, torch, safetensors and the standard library only.
"""

from __future__ import annotations

import os

from harness.engine_plugin.settings import Settings


def platform() -> str | None:
    """Name the platform class vLLM shall use instead of its own, or None to leave vLLM alone.

    Called for the entry point group ``vllm.platform_plugins``.  vLLM swallows what is raised here, which is
    why ``load`` is where wrong settings are reported.
    """
    if not Settings.from_environment(os.environ).cpu_sleep:
        return None
    from harness.engine_plugin import compat

    return compat.SLEEPING_PLATFORM if compat.is_cpu_engine() else None


def load() -> None:
    """Check the settings and plant the faults that they name.

    Called for the entry point group ``vllm.general_plugins``, once in every vLLM process at its start.

    Raises:
        PluginError: A setting has a value that does not exist; the engine does not start.
    """
    settings = Settings.from_environment(os.environ)
    if settings.weight_transfer:
        from harness.engine_plugin import compat

        compat.register_weight_transfer()
    if settings.cpu_sleep:
        from harness.engine_plugin import compat

        compat.warn_if_sleep_mode_is_absent()
    if settings.faults:
        from harness.engine_plugin import faults

        for fault in settings.faults:
            faults.plant(fault)
