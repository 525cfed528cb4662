"""Cause class: stale prefix cache."""

from __future__ import annotations

from typing import Any

from harness.engine_plugin.faults.hooks import Wrapper, wrap
from harness.engine_plugin.faults.registry import fault


@fault("keep-prefix-cache", cause="stale prefix cache")
def keep_prefix_cache() -> None:
    """Sleep discards the KV cache but keeps the prefix cache's block hashes.

    The founding bug (vllm#16234, vllm#17103), fixed in 0.10.1 by resetting the prefix cache on sleep.  Only
    that reset is undone: pausing, ``/release_kv_cache_memory`` and an explicit ``/reset_prefix_cache`` still
    clear the cache.
    """
    from vllm.v1.engine.core import EngineCore

    if hasattr(EngineCore, "_reset_caches"):
        _keep_in_engine_core(EngineCore)
    else:  # the first fix, 0.10.1, resets from the API server's process
        from vllm.v1.engine.async_llm import AsyncLLM

        wrap(AsyncLLM, "sleep", _sleep_without_reset)


def _keep_in_engine_core(engine_core: type) -> None:
    falling_asleep = False  # from the call of sleep to its reset, which waits for running requests to end

    def sleep(original: Wrapper, self: Any, level: int = 1, *arguments: Any, **options: Any) -> Any:
        nonlocal falling_asleep
        falling_asleep = level >= 1
        return original(self, level, *arguments, **options)

    def reset_caches(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> None:
        nonlocal falling_asleep
        if not falling_asleep:
            original(self, *arguments, **options)
            return
        falling_asleep = False
        block_pool = self.scheduler.kv_cache_manager.block_pool
        block_pool.reset_prefix_cache = lambda: True
        try:
            original(self, *arguments, **options)
        finally:
            del block_pool.reset_prefix_cache  # the class's own method again

    wrap(engine_core, "sleep", sleep)
    wrap(engine_core, "_reset_caches", reset_caches)


async def _sleep_without_reset(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> None:
    async def keep() -> None:
        pass

    self.reset_prefix_cache = keep
    try:
        await original(self, *arguments, **options)
    finally:
        del self.reset_prefix_cache
