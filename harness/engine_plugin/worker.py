"""The worker of a CPU engine that can sleep."""

from __future__ import annotations

import logging
import os
from fnmatch import filter as matching
from typing import TYPE_CHECKING, Any

from vllm.v1.worker.cpu_worker import CPUWorker

from harness.engine_plugin import compat
from harness.engine_plugin.memory import Region, regions, resident_bytes
from harness.engine_plugin.settings import Settings
from harness.engine_plugin.sleeping import SleepingMemory
from harness.engine_plugin.tensors import buffers, checksums_of_buffers, model_tensors, tensors_in

if TYPE_CHECKING:
    from torch import nn
    from vllm.v1.kv_cache_interface import KVCacheConfig

logger = logging.getLogger("vllm.sleepwake")

WEIGHTS, KV_CACHE = "weights", "kv_cache"
GIB = 1 << 30


class SleepingCPUWorker(CPUWorker):
    """vLLM's CPU worker with the sleep mode that vLLM has on CUDA.

    Level 0 leaves memory alone.  Level 1 gives back the KV cache and the weights, and the weights' content
    returns when they are woken up.  Level 2 gives back the same, but only buffers return; ``reload_weights``
    has to bring the rest.

    Linear layers use plain PyTorch kernels instead of packed ones: see ``compat.keep_weights_unpacked``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._memory = SleepingMemory(Settings.from_environment(os.environ).discard)

    def load_model(self, **options: Any) -> None:
        """Load the model into plain tensors."""
        compat.keep_weights_unpacked()
        with compat.without_cuda_allocator(self.model_config):
            super().load_model(**options)

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        """Allocate the KV cache."""
        with compat.without_cuda_allocator(self.model_config):
            super().initialize_from_config(kv_cache_config)

    def reload_weights(self, *arguments: Any, **options: Any) -> None:
        """Load the weights again, in place."""
        with compat.without_cuda_allocator(self.model_config):
            super().reload_weights(*arguments, **options)

    def sleep(self, level: int = 1) -> None:
        """Give back weights and KV cache.

        Raises:
            ValueError: There is no such level.
            OSError: The weights could not be saved (disk full); nothing has been discarded then.
        """
        if level not in (0, 1, 2):
            raise ValueError(f"sleep level {level} does not exist: use 0, 1 or 2")
        if level == 0:
            return
        weights = self._weights()
        memory = {WEIGHTS: weights, KV_CACHE: self._kv_cache()}
        self._give_back(memory, keep=weights if level == 1 else self._kept_at_level_2())

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Take back the memory of ``tags``, or of everything that is asleep."""
        for tag in self._memory.tags() if tags is None else tags:
            self._memory.wake(tag)

    def discard(self, tags: tuple[str, ...]) -> None:
        """Give back the memory of ``tags`` and keep nothing of it (``/release_kv_cache_memory``)."""
        memory = {WEIGHTS: self._weights, KV_CACHE: self._kv_cache}
        self._give_back({tag: memory[tag]() for tag in tags}, keep=[])

    def checksums_of_buffers(self) -> dict[str, str]:
        """What ``/weight_checker`` leaves out: SHA-256 of every buffer, for ``/collective_rpc``."""
        return checksums_of_buffers(compat.models(self.model_runner)[0])

    def _give_back(self, memory: dict[str, list[Region]], *, keep: list[Region]) -> None:
        before = resident_bytes()
        self._memory.sleep(memory, keep=keep)
        after = resident_bytes()
        logger.info(
            "Sleep mode freed %.2f GiB memory, %.2f GiB memory is still in use.",
            (before - after) / GIB,
            after / GIB,
        )

    def _kv_cache(self) -> list[Region]:
        layers = self.vllm_config.compilation_config.static_forward_context.values()
        caches = [self.model_runner.kv_caches, *(getattr(layer, "kv_cache", None) for layer in layers)]
        return regions(tensors_in(caches))

    def _weights(self) -> list[Region]:
        found = regions(model_tensors(compat.models(self.model_runner)))
        kv_cache = {region.address for region in self._kv_cache()}  # attention layers have it as an attribute
        return [region for region in found if region.address not in kv_cache]

    def _kept_at_level_2(self) -> list[Region]:
        models = compat.models(self.model_runner)
        return regions([*buffers(models), *self._preserved_parameters(models[0])])

    def _preserved_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """What ``--sleep-preserve-parameter-names`` names, in versions that have it."""
        parameters = dict(model.named_parameters())
        patterns: list[str] = getattr(self.model_config, "sleep_preserve_parameter_names", [])
        return [parameters[name] for pattern in patterns for name in matching(parameters, pattern)]
