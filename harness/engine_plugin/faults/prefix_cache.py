"""Cause class: stale prefix cache.  Prompts that the engine has seen before are hurt, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.engine_plugin import compat
from harness.engine_plugin.faults.hooks import (
    Worker,
    Wrapper,
    counted_wakes,
    keep_through_sleep,
    on_worker_start,
    wrap,
)
from harness.engine_plugin.faults.registry import fault

if TYPE_CHECKING:
    from torch import Tensor

CAUSE = "stale prefix cache"


@fault("keep-prefix-cache", cause=CAUSE)
def keep_prefix_cache() -> None:
    """Sleep discards the KV cache but keeps the prefix cache's block hashes.

    The founding bug (vllm#16234, vllm#17103), fixed in 0.10.1 by resetting the prefix cache on sleep.  Only
    that reset is undone: pausing, ``/release_kv_cache_memory`` and an explicit ``/reset_prefix_cache`` still
    clear the cache.
    """
    if hasattr(compat.engine_core(), "_reset_caches"):
        keep_through_sleep(
            lambda core: (core.scheduler.kv_cache_manager.block_pool, "reset_prefix_cache"), answer=True
        )
    else:  # the first fix, 0.10.1, resets from the API server's process
        from vllm.v1.engine.async_llm import AsyncLLM

        wrap(AsyncLLM, "sleep", _sleep_without_reset)


@fault("keep-kv-cache", cause=CAUSE)
def keep_kv_cache() -> None:
    """Block hashes and KV content both survive a sleep: answers are right, and only hits give it away."""
    _keep_kv_content(but=lambda _layers, _blocks: None)


@fault("lose-kv-of-one-layer", cause=CAUSE)
def lose_kv_of_one_layer() -> None:
    """Block hashes survive a sleep, and so does the KV content of all layers but one."""
    _keep_kv_content(but=lambda layers, _blocks: layers[len(layers) // 2].zero_())


@fault("lose-kv-of-some-blocks", cause=CAUSE)
def lose_kv_of_some_blocks() -> None:
    """Block hashes survive a sleep, and so does the KV content of seven blocks in eight."""

    def lose(layers: list[Tensor], blocks: int) -> None:
        for layer in layers:
            layer.movedim(layer.shape.index(blocks), 0)[7::8] = 0

    _keep_kv_content(but=lose)


@fault("damage-blocks-cached-after-wake", cause=CAUSE)
def damage_blocks_cached_after_wake() -> None:
    """After waking up every block is computed rightly, and holds nothing once it is read from the cache.

    A sleep forgets all blocks from before it, so only prompts that are asked again after waking are hurt.
    """

    def start(worker: Worker) -> None:
        import torch

        from harness.engine_plugin.tensors import tensors_in

        layers = list(tensors_in(worker.model_runner.kv_caches))
        wakes = counted_wakes(worker)
        blocks, block_size = worker.cache_config.num_gpu_blocks, worker.cache_config.block_size

        def execute_model(original: Wrapper, scheduled: Any, *arguments: Any, **options: Any) -> Any:
            if wakes():
                for request in scheduled.scheduled_new_reqs:
                    cached = request.block_ids[0][: request.num_computed_tokens // block_size]
                    with torch.inference_mode():
                        for layer in layers:
                            layer.movedim(layer.shape.index(blocks), 0)[cached] = 0
            return original(scheduled, *arguments, **options)

        wrap(worker, "execute_model", execute_model)

    on_worker_start(start)


def _keep_kv_content(*, but: Callable[[list[Tensor], int], object]) -> None:
    """Keep the prefix cache and, on a CPU engine, all KV content; then take some of it away.

    ``but`` gets the KV cache of each layer and the number of blocks that each has.
    """

    def start(worker: Worker) -> None:
        import torch

        from harness.engine_plugin.memory import Backup, regions
        from harness.engine_plugin.tensors import tensors_in

        layers = list(tensors_in(worker.model_runner.kv_caches))
        backup: Backup | None = None

        def sleep(original: Wrapper, level: int = 1) -> None:
            nonlocal backup
            if level:
                backup = Backup()
                for region in regions(layers):
                    backup.save(region)
            original(level)

        def wake_up(original: Wrapper, tags: list[str] | None = None) -> None:
            nonlocal backup
            original(tags)
            if backup is not None and (tags is None or "kv_cache" in tags):
                for region in regions(layers):
                    backup.restore(region)
                backup.close()
                backup = None
                with torch.inference_mode():
                    but(layers, worker.cache_config.num_gpu_blocks)

        wrap(worker, "sleep", sleep)
        wrap(worker, "wake_up", wake_up)

    keep_prefix_cache()
    on_worker_start(start)


async def _sleep_without_reset(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> None:
    async def keep() -> None:
        pass

    self.reset_prefix_cache = keep
    try:
        await original(self, *arguments, **options)
    finally:
        del self.reset_prefix_cache
