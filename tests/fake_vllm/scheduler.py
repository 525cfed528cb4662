"""Runs sequences side by side over one model and one block pool (vllm/v1/core/sched/scheduler.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

import numpy as np

from tests.fake_vllm import sampler, vocabulary
from tests.fake_vllm.behaviours import Fault
from tests.fake_vllm.blocks import BlockPool
from tests.fake_vllm.model import Array, ToyModel
from tests.fake_vllm.pace import Pace
from tests.fake_vllm.sequence import FinishReason, Sequence

LATE = 40
"""The token of an answer from which on ``damage-late-tokens`` shows."""


class Pause(Enum):
    """How much of scheduling rests."""

    NOTHING = auto()
    NEW = auto()
    """New sequences wait; those that run go on."""
    EVERYTHING = auto()


@dataclass
class Counters:
    """What ``/metrics`` tells about scheduling."""

    running: int = 0
    waiting: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    generation_tokens: int = 0
    preemptions: int = 0
    ended: dict[str, int] = field(default_factory=lambda: {"stop": 0, "length": 0, "abort": 0})
    """Requests that came to an end, by their finish reason."""


@dataclass
class Distortion:
    """What is done to cached blocks, and to logits before a token is chosen; nothing by default."""

    noise: float = 0.0
    rounds: bool = False
    """Whether logits keep no more bits than bfloat16 has."""
    shuffled_from_token: int | None = None
    is_due: bool = False
    """Whether memory has slept and is awake again: what is planted shows from then on."""
    faults: AbstractSet[Fault] = frozenset()
    shuffles_one_in: int | None = None
    """The logits of one request in so many, once it is due; None for none."""
    may_mix_salts: bool = False
    """Whether a prompt is found under any salt, once it is due."""
    spoils_rehits: bool = False
    """Whether blocks hold nothing once they are read from the prefix cache, from the start."""
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def loses_what_is_cached(self) -> bool:
        """Whether blocks hold nothing now once they are read from the prefix cache."""
        planted = Fault.DAMAGE_BLOCKS_CACHED_AFTER_WAKE in self.faults
        return self.spoils_rehits or (self.is_due and planted)

    @property
    def mixes_salts(self) -> bool:
        """Whether a prompt is found under any salt now."""
        return self.is_due and self.may_mix_salts

    def shuffles(self, number: int) -> bool:
        """Whether it shuffles all logits of the request of this number."""
        return self.is_due and self.shuffles_one_in is not None and number % self.shuffles_one_in == 0

    @property
    def reads_no_cache(self) -> bool:
        """Whether no request is served from the prefix cache now."""
        return self.is_due and Fault.DEAD_PREFIX_CACHE in self.faults

    @property
    def lost(self) -> AbstractSet[Fault]:
        """What is planted and shows now."""
        return self.faults if self.is_due else frozenset()

    def kept(self, row: Array) -> Array:
        """What the KV cache keeps of a token's keys and values."""
        rounds = self.is_due and Fault.ROUND_KEYS_AND_VALUES in self.faults
        return np.asarray(np.round(row * 4) / 4, dtype=np.float32) if rounds else row

    def apply(self, logits: Array, position_in_answer: int) -> Array:
        """The logits that the sampler sees."""
        if self.noise:
            logits = logits + (self.random.standard_normal(len(logits)) * self.noise).astype(np.float32)
        if self.rounds:
            logits = (logits.view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)
        if self.shuffled_from_token is not None and position_in_answer >= self.shuffled_from_token:
            logits = self.random.permutation(logits)
        late = self.is_due and Fault.DAMAGE_LATE_TOKENS in self.faults and position_in_answer >= LATE - 1
        if late:
            best, second = np.argsort(logits)[:-3:-1]
            logits = logits.copy()
            logits[[best, second]] = logits[[second, best]]
        return logits


class Scheduler:
    """Gives every running sequence one token a step."""

    def __init__(self, model: ToyModel, pool: BlockPool, *, prefix_caching: bool, slots: int) -> None:
        self.pause = Pause.NOTHING
        self.counters = Counters()
        self.distortion = Distortion()
        self.pace = Pace(self.distortion.faults)
        self.slots = slots
        self.seconds_a_step = 0.0
        """How long it rests after each: 0 is as fast as it can."""
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self._model = model
        self._pool = pool
        self._prefix_caching = prefix_caching
        self._has_work = asyncio.Event()
        self._drained = asyncio.Event()
        self._numbers = count(1)
        self._salted: dict[bytes, bytes] = {}
        """Under which hash a block is remembered that is known by this one without its salt."""

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        sequence.is_shuffled = self.distortion.shuffles(next(self._numbers))
        self.waiting.append(sequence)
        self._has_work.set()

    def set_pause(self, pause: Pause) -> None:
        """Rest, or go on."""
        self.pause = pause
        self._has_work.set()

    async def drain(self) -> None:
        """Wait until nothing runs any more."""
        while self.running:
            self._drained.clear()
            await self._drained.wait()

    def abort(self, sequences: list[Sequence]) -> None:
        """End sequences early, with what they have."""
        for sequence in sequences:
            if sequence in self.waiting:
                self.waiting.remove(sequence)
                self._finish(sequence, "abort")
            elif sequence in self.running:
                self._leave(sequence)
                self._finish(sequence, "abort")
                self._observe()

    def drop_one(self) -> None:
        """Forget one sequence that runs, and tell nobody."""
        for sequence in self.running[:1]:
            self._leave(sequence)

    def preempt_all(self) -> None:
        """Take their blocks from all running sequences; they are computed again from the start."""
        for sequence in reversed(self.running.copy()):
            self._leave(sequence)
            sequence.computed = 0
            sequence.prompt_logprobs.clear()
            self.waiting.insert(0, sequence)
            self.counters.preemptions += 1

    async def run(self) -> None:
        """Schedule until cancelled; should it fail, nobody is left waiting."""
        try:
            await self._run()
        finally:
            self.abort([*self.running, *self.waiting])

    async def _run(self) -> None:
        while True:
            if self.pause is not Pause.EVERYTHING:
                self._admit()
            if self.pause is Pause.EVERYTHING or not self.running:
                self._has_work.clear()
                await self._has_work.wait()
                continue
            if seconds := self.pace.step(reading=sum(map(_unread, self.running))):
                await asyncio.sleep(seconds)
            for sequence in self.running.copy():
                self._advance(sequence)
            self._observe()
            await asyncio.sleep(self.seconds_a_step)

    def _observe(self) -> None:
        """Update the gauges, which rest while nothing is scheduled: who waits for a sleeper is not seen."""
        self.counters.running, self.counters.waiting = len(self.running), len(self.waiting)

    def _admit(self) -> None:
        while (
            self.waiting
            and self.pause is Pause.NOTHING
            and len(self.running) < self.slots
            and self._give_blocks(self.waiting[0])
        ):
            self.running.append(self.waiting.pop(0))

    def _give_blocks(self, sequence: Sequence) -> bool:
        size = self._pool.block_size
        needed = -(-sequence.longest // size)
        if self._pool.free_blocks < needed:
            return False
        found = self._find_computed_blocks(sequence)
        sequence.blocks = found + [self._pool.take() for _ in range(needed - len(found))]
        sequence.computed = len(found) * size
        if sequence.cached is None:
            sequence.cached = sequence.computed
        return True

    def _find_computed_blocks(self, sequence: Sequence) -> list[int]:
        """Blocks from the prefix cache, never all: the last token is always computed, for its logits."""
        if not self._prefix_caching or sequence.wants_prompt_logprobs or self.distortion.reads_no_cache:
            return []
        size = self._pool.block_size
        found = self._pool.find(self._wanted(sequence, (len(sequence.tokens) - 1) // size))
        if self.distortion.loses_what_is_cached:
            self._pool.contents[found] = 0
        self.counters.prefix_cache_queries += len(sequence.tokens)
        self.counters.prefix_cache_hits += len(found) * size
        return found

    def _wanted(self, sequence: Sequence, blocks: int) -> list[bytes]:
        """The hashes under which the first blocks of a sequence are looked for."""
        if not self.distortion.mixes_salts:
            return sequence.hashes(blocks, self._pool.block_size)
        plain = sequence.hashes_under_any_salt(blocks, self._pool.block_size)
        return [self._salted.get(each, each) for each in plain]

    def _advance(self, sequence: Sequence) -> None:
        """Compute what is not computed yet (the prompt, or one token) and choose the next token."""
        while True:
            position = sequence.computed
            hidden = self._compute(sequence, position)
            if position == len(sequence.tokens) - 1:
                break
            if sequence.wants_prompt_logprobs and position < sequence.prompt_length - 1:
                sequence.prompt_logprobs.append(_log_softmax(self._model.logits(hidden)))
        logits = self.distortion.apply(self._model.logits(hidden), len(sequence.generated))
        if sequence.is_shuffled:
            logits = self.distortion.random.permutation(logits)
        self._append(sequence, logits)

    def _compute(self, sequence: Sequence, position: int) -> Array:
        size = self._pool.block_size
        context = self._pool.gather(sequence.blocks[: position // size + 1], position + 1)
        adapter = sequence.adapter.weights if sequence.adapter else None
        hidden = self._model.compute(sequence.tokens[position], position, context, adapter)
        kept = self.distortion.kept(context[position])
        self._pool.write(sequence.blocks[position // size], position % size, kept)
        sequence.computed = position + 1
        if self._prefix_caching and sequence.computed % size == 0:
            full = sequence.computed // size
            known_as = sequence.hashes(full, size)[-1]
            self._pool.remember(sequence.blocks[full - 1], known_as)
            if self.distortion.may_mix_salts:
                self._salted.setdefault(sequence.hashes_under_any_salt(full, size)[-1], known_as)
        return hidden

    def _append(self, sequence: Sequence, logits: Array) -> None:
        sampling, lost = sequence.sampling, self.distortion.lost
        token = sampler.choose(
            sequence,
            logits,
            steers=Fault.FORGET_PENALTIES not in lost,
            follows=Fault.LOSE_GRAMMAR_STATE not in lost,
        )
        sequence.tokens.append(token)
        sequence.logprobs.append(_log_softmax(logits))
        sequence.garbles = Fault.GARBLE_TEXT in lost
        sequence.stop_reason = None if Fault.IGNORE_STOPS in lost else sequence.stopped_by()
        sequence.news.set()
        self.counters.generation_tokens += 1
        ends = token == vocabulary.END_OF_SEQUENCE and not sampling.ignore_eos
        if ends or sequence.stop_reason is not None:
            self._leave(sequence)
            self._finish(sequence, "stop")
        elif len(sequence.generated) == sampling.max_tokens:
            self._leave(sequence)
            self._finish(sequence, "length")

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.finish(reason)
        self.counters.ended[reason] += 1

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._pool.release(sequence.blocks)
        sequence.blocks = []
        self._drained.set()


def _unread(sequence: Sequence) -> int:
    """How many tokens of a prompt have to be read before its first token can come."""
    return 0 if sequence.generated else len(sequence.tokens) - sequence.computed


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max()
    normalised: Array = shifted - np.log(np.exp(shifted).sum())
    return normalised
