"""An engine core with a block pool and nothing else, for faults to take hold of."""

from __future__ import annotations

from types import SimpleNamespace


class Request:
    """A request with a seed."""

    def __init__(self, seed: int | None = 7) -> None:
        self.sampling_params = SimpleNamespace(seed=seed)
        self.skip_reading_prefix_cache = False


class BlockPool:
    """Hashes of cached blocks."""

    def __init__(self) -> None:
        self.hashes = {"a block"}

    def reset_prefix_cache(self) -> bool:
        """Forget them."""
        self.hashes = set()
        return True


class SmallCore:
    """Sleeps, wakes up, resets and schedules as vLLM's ``EngineCore`` does, one method calling the other."""

    def __init__(self) -> None:
        self.block_pool = BlockPool()
        self.scheduler = SimpleNamespace(kv_cache_manager=SimpleNamespace(block_pool=self.block_pool))
        self.model_executor = SimpleNamespace(is_sleeping=False)
        self.encoded = {"a picture"}
        self.scheduled: list[Request] = []

    def sleep(self, level: int = 1) -> None:
        """Pause; from level 1 on clear caches and let the executor sleep."""
        if level:
            self.pause()
            self.model_executor.is_sleeping = True

    def wake_up(self) -> None:
        """Wake up."""
        self.model_executor.is_sleeping = False

    def pause(self) -> None:
        """Stop scheduling and clear caches."""
        self._reset_caches()

    def _reset_caches(self) -> None:
        self.reset_prefix_cache()
        self.reset_encoder_cache()

    def reset_encoder_cache(self) -> None:
        """Forget which pictures are encoded."""
        self.encoded = set()

    def reset_prefix_cache(self) -> bool:
        """Clear the prefix cache."""
        return bool(self.scheduler.kv_cache_manager.block_pool.reset_prefix_cache())

    def add_request(self, request: Request) -> None:
        """Schedule a request."""
        self.scheduled.append(request)
