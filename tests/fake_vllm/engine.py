"""The engine: requests, and the lifecycle around the scheduler and the memory (vllm/v1/engine/core.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from collections.abc import Sequence as Tags
from pathlib import Path
from typing import Literal, TypeAlias

from tests.fake_vllm.behaviours import Behaviour, Fault
from tests.fake_vllm.blocks import BlockPool
from tests.fake_vllm.memory import Memory
from tests.fake_vllm.model import ToyModel, load_adapter
from tests.fake_vllm.options import Options
from tests.fake_vllm.scheduler import Pause, Scheduler
from tests.fake_vllm.sequence import Adapter, Sequence

PauseMode: TypeAlias = Literal["abort", "wait", "keep"]

NOISE_OF_BFLOAT16 = 0.02
"""Standard deviation of what is added to logits before they are rounded."""


class EngineError(Exception):
    """The engine refuses a call; the API answers with HTTP 500."""


class Engine:
    """Everything behind the API: ``await generate(...)`` and the lifecycle calls."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._misbehaviour = options.misbehaviour
        self._exit_process = options.exit_process
        self.faults = set(options.misbehaviour.faults)
        """What is planted now; a switchboard changes it."""
        self._pool = BlockPool(blocks=options.blocks, block_size=options.block_size)
        self.memory = Memory(
            model=Path(options.model).name,
            pool=self._pool,
            discard=options.discard,
            faults=self.faults,
            has_ballast=options.has_ballast,
        )
        self.model = model = ToyModel(self.memory.weights, max_model_len=options.max_model_len)
        self.scheduler = Scheduler(
            model,
            self._pool,
            prefix_caching=options.enable_prefix_caching,
            slots=options.max_num_seqs,
        )
        self.scheduler.distortion.faults = self.scheduler.pace.faults = self.faults
        if (seed := self._misbehaviour.number(Behaviour.TAKES_TIME)) is not None:
            self.scheduler.pace.vary(seed)
        self.scheduler.distortion.spoils_rehits = Behaviour.WRONG_REHITS in self._misbehaviour
        self.scheduler.distortion.shuffles_one_in = self._misbehaviour.number(Behaviour.GARBAGE_NOW_AND_THEN)
        self.scheduler.distortion.may_mix_salts = Behaviour.MIX_SALTS_AFTER_WAKE in self._misbehaviour
        self.scheduler.distortion.noise = (self._misbehaviour.number(Behaviour.NOISE) or 0) / 1000
        if options.dtype == "bfloat16":
            self.scheduler.distortion.noise = self.scheduler.distortion.noise or NOISE_OF_BFLOAT16
            self.scheduler.distortion.rounds = True
        self.scheduler.seconds_a_step = (self._misbehaviour.number(Behaviour.SLOW) or 0) / 1000
        if Behaviour.NO_WEIGHTS in self._misbehaviour:
            for tensor in self.memory.weights.values():
                tensor[...] = 0
        self.adapters: dict[str, Adapter] = {}
        self.sleep_gauge: tuple[bool, int] = (False, 0)
        """Whether the sleep-state metric says asleep, and at which level: set by calls, not by the memory."""
        self.wake_ups = 0
        self.releases = 0
        self.operations: dict[str, list[float]] = {}
        """How long sleep-mode calls took, by their name in the metric."""
        self.weight_version = "default"
        self._resting = 0
        """How many calls that let it rest are under way."""
        self.started = time.time()

    async def generate(self, sequence: Sequence) -> None:
        """Run a sequence to its end; leaving early aborts it."""
        self.scheduler.submit(sequence)
        try:
            await sequence.finished.wait()
        finally:
            self.scheduler.abort([sequence])

    async def stream(self, sequence: Sequence) -> AsyncIterator[int]:
        """Run a sequence and yield how many tokens it has, whenever it has more; leaving early aborts it."""
        self.scheduler.submit(sequence)
        try:
            while sequence.finish_reason is None:
                await sequence.news.wait()
                sequence.news.clear()
                yield len(sequence.generated)
        finally:
            left = sequence.finish_reason is None
            self.scheduler.abort([sequence])
            if left and self._resting and Behaviour.PAUSE_AND_CANCEL_DROP_REQUEST in self._misbehaviour:
                self.scheduler.drop_one()

    @property
    def is_paused(self) -> bool:
        """Whether scheduling rests, for whatever reason."""
        return self.scheduler.pause is not Pause.NOTHING

    @property
    def is_sleeping(self) -> bool:
        """Whether scheduling rests or any memory is asleep."""
        return self.is_paused or bool(self.memory.sleeping)

    async def sleep(self, level: int, mode: PauseMode) -> None:
        """Pause, reset the caches from level 1 on, then discard memory."""
        if Behaviour.SLEEP_DOES_NOTHING in self._misbehaviour:
            return
        rested, deeper = self.is_paused, level > 1 and "weights" in self.memory.sleeping
        if Behaviour.DIE_SLEEPING_DEEPER in self._misbehaviour and deeper:
            self._exit_process(1)
        await self._rest(mode)
        if level >= 1:
            keep = Behaviour.FORGET_NOTHING_IF_PAUSED in self._misbehaviour and rested
            keep = keep or Behaviour.MIX_SALTS_AFTER_WAKE in self._misbehaviour
            self._reset_caches(keep_hashes=keep or Fault.KEEP_PREFIX_CACHE in self.faults)
            self.memory.sleep(level)
        self.sleep_gauge = (True, level)
        if level >= 1:
            await _lasting(self.scheduler.pace.falling_asleep())

    async def wake_up(self, tags: Tags[str] | None) -> bool:
        """Bring memory back; scheduling goes on once all of it is."""
        if Behaviour.WAKE_UP_FAILS in self._misbehaviour:
            raise EngineError("wake_up failed")
        slept = bool(self.memory.sleeping)
        wakes_weights = "weights" in self.memory.sleeping and (not tags or "weights" in tags)
        memory_tags = [tag for tag in tags or () if tag != "scheduling"]
        if not tags or memory_tags:
            self.memory.wake_up(memory_tags)
        if wakes_weights:
            await _lasting(self.scheduler.pace.waking_up())
        if self.memory.sleeping:
            return False
        self.resume()
        self.sleep_gauge = (False, 0)
        self.wake_ups += 1
        self.scheduler.distortion.shuffled_from_token = self._misbehaviour.number(
            Behaviour.GARBAGE_AFTER_WAKE
        )
        if slept:
            self.scheduler.distortion.is_due = True
            if Fault.LOSE_BUFFERS in self.faults:
                self.model.positions[...] = 0
            slower = self._misbehaviour.number(Behaviour.SLOW_AFTER_WAKE) or 0
            self.scheduler.seconds_a_step += slower / 1000
        return True

    async def pause(self, mode: PauseMode, *, clear_cache: bool) -> None:
        """Rest with all memory in place."""
        await self._rest(mode)
        if clear_cache:
            self._reset_caches()

    def resume(self) -> None:
        """Go on."""
        self.scheduler.set_pause(Pause.NOTHING)

    def abort_requests(self) -> int:
        """End every request, and say how many there were."""
        held = [*self.scheduler.running, *self.scheduler.waiting]
        self.scheduler.abort(held)
        return len(held)

    def release_kv_cache_memory(self) -> None:
        """Discard the KV cache while paused."""
        if not self.is_paused or self.scheduler.running or self.scheduler.waiting:
            raise EngineError("release_kv_cache_memory() requires a completed pause first")
        if self.memory.sleeping:
            raise EngineError("release_kv_cache_memory() requires all executor memory to be resident")
        self._reset_caches()
        self.memory.release_kv_cache()
        self.releases += 1
        self.sleep_gauge = (True, 0)

    def reset_prefix_cache(self, *, running_requests: bool = False) -> bool:
        """Forget the prefix cache; refused (False) while requests run, unless these are preempted."""
        if self._resting and Behaviour.RESET_LOST_BETWEEN_CALLS in self._misbehaviour:
            return True
        if running_requests:
            self.scheduler.preempt_all()
        return self._pool.forget()

    def load_adapter(self, name: str, path: str) -> None:
        """Load an adapter under this name.

        Raises:
            FileNotFoundError: there is none at the path.
        """
        content = (Path(path) / "adapter_model.safetensors").read_bytes()
        self.adapters[name] = Adapter(name=name, path=path, weights=load_adapter(content))

    async def _rest(self, mode: PauseMode) -> None:
        if mode == "abort":
            self.scheduler.abort([*self.scheduler.running, *self.scheduler.waiting])
        pause = Pause.EVERYTHING if mode == "keep" else Pause.NEW
        self.scheduler.set_pause(pause)
        if mode == "wait":
            self._resting += 1
            try:
                await self.scheduler.drain()
            finally:
                self._resting -= 1
            if Behaviour.WAKE_UP_OVERTAKES_SLEEP not in self._misbehaviour:
                self.scheduler.set_pause(pause)  # somebody may have let it go on meanwhile

    def _reset_caches(self, *, keep_hashes: bool = False) -> None:
        self.scheduler.preempt_all()
        if not keep_hashes:
            self._pool.forget()


async def _lasting(seconds: float) -> None:
    """Take so long; nobody else gets a turn where it is nothing."""
    if seconds:
        await asyncio.sleep(seconds)
