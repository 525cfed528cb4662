"""The platform class that lets vLLM accept ``--enable-sleep-mode`` on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.platforms.cpu import CpuPlatform

from harness.engine_plugin.compat import CPU_WORKER
from harness.engine_plugin.settings import PluginError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

SLEEPING_WORKER = "harness.engine_plugin.worker.SleepingCPUWorker"


class SleepingCpuPlatform(CpuPlatform):
    """vLLM's CPU platform with a sleep mode, and nothing else changed."""

    def is_sleep_mode_available(self) -> bool:
        """Whether ``--enable-sleep-mode`` is accepted."""
        return True

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        """Configure as on any CPU; an engine with sleep mode gets the worker that can sleep.

        Raises:
            PluginError: The engine uses another worker class, which cannot sleep.
        """
        super().check_and_update_config(vllm_config)
        parallel = vllm_config.parallel_config
        if vllm_config.model_config is None or not vllm_config.model_config.enable_sleep_mode:
            return
        if parallel.worker_cls not in (CPU_WORKER, SLEEPING_WORKER):
            raise PluginError(
                f"sleep mode on a CPU needs the worker {CPU_WORKER}; this engine uses {parallel.worker_cls}"
            )
        parallel.worker_cls = SLEEPING_WORKER
