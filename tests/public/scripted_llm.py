"""An ``LLM`` as far as a guard knows one: a plain object that answers by rule, and is damaged on request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

BLOCK = 16
VOCABULARY = 1000


@dataclass
class SamplingParams:
    """Those that a guard sets."""

    temperature: float = 1.0
    max_tokens: int = 16
    logprobs: int | None = None
    seed: int | None = None


@dataclass
class Logprob:
    """Of one candidate."""

    logprob: float
    rank: int


class Tokenizer:
    """One token a word."""

    chat_template = None
    eos_token_id = None

    def encode(self, text: str) -> list[int]:
        """Token ids that are the same in every process."""
        return [sum(map(ord, word)) % VOCABULARY for word in text.split()]


@dataclass
class ScriptedLLM:
    """Greedy and deterministic; what it answers depends on its weights and on the KV blocks it reads.

    Args:
        keeps_prefix_cache: A sleep throws the blocks away and keeps vouching for them.
        jitter: How far log-probabilities differ from pass to pass by themselves.
        mistakes: How many of the next answers have one other token.
    """

    keeps_prefix_cache: bool = False
    jitter: float = 0.0
    dtype: str = "torch.float32"
    weights: str = "own"
    asked: list[list[dict[str, Any]]] = field(default_factory=list)
    adapters: list[object] = field(default_factory=list)
    mistakes: int = 0
    raises: BaseException | None = None
    tells_checksums: bool = True
    checksums_read: int = 0
    _asleep: set[str] = field(default_factory=set)
    _cache: dict[tuple[str | None, tuple[int, ...]], str] = field(default_factory=dict)
    _noise: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - repeats itself

    @property
    def llm_engine(self) -> SimpleNamespace:
        """What a guard reads of the engine behind it."""
        model = SimpleNamespace(
            model="scripted", dtype=self.dtype, max_model_len=4096, get_vocab_size=lambda: VOCABULARY
        )
        cache = SimpleNamespace(block_size=BLOCK, enable_prefix_caching=True, cache_dtype="auto")
        configuration = SimpleNamespace(model_config=model, cache_config=cache, kv_transfer_config=None)
        return SimpleNamespace(
            vllm_config=configuration,
            is_sleeping=lambda: bool(self._asleep),
            collective_rpc=self._ask_workers,
        )

    def checksums(self) -> dict[str, str]:
        """Of two tensors; only the first depends on what the weights are."""
        self.checksums_read += 1
        if not self.tells_checksums:
            raise RuntimeError("Call to collective_rpc method failed: no such method")
        return {"dp0:tp0:first": self.weights, "dp0:tp0:second": "always"}

    def _ask_workers(self, method: str) -> list[dict[str, str]]:
        assert method == "compute_weight_checksums"
        return [self.checksums()]

    def get_tokenizer(self) -> Tokenizer:
        """As vLLM's."""
        return Tokenizer()

    def get_default_sampling_params(self) -> SamplingParams:
        """As vLLM's."""
        return SamplingParams()

    def generate(
        self,
        prompts: Sequence[Mapping[str, Any]],
        sampling_params: SamplingParams,
        *,
        use_tqdm: bool,
        lora_request: object = None,
    ) -> list[SimpleNamespace]:
        """As vLLM's."""
        self.adapters.append(lora_request)
        assert not self._asleep, "an engine that rests lets requests wait for ever"
        assert not use_tqdm
        if self.raises is not None:
            raise self.raises
        self.asked.append([dict(prompt) for prompt in prompts])
        return [self._output(prompt, sampling_params) for prompt in prompts]

    def sleep(self, level: int = 1, mode: str = "abort") -> None:
        """As vLLM's."""
        assert mode in {"abort", "wait", "keep"}
        self._asleep = {"weights", "kv_cache"}
        if self.keeps_prefix_cache:
            self._cache = dict.fromkeys(self._cache, "blank")
        else:
            self._cache.clear()
        if level == 2:
            self.weights = "lost"

    def wake_up(self, tags: list[str] | None = None) -> bool:
        """As vLLM's."""
        self._asleep -= set(tags or self._asleep)
        return not self._asleep

    def collective_rpc(
        self, method: str, timeout: float | None = None, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> list[None]:
        """As vLLM's."""
        assert (timeout, args, kwargs) == (None, (), None)
        if method != "reload_weights":
            raise NotImplementedError(method)
        self.weights = "own"
        return [None]

    def reset_prefix_cache(self) -> bool:
        """As vLLM's."""
        self._cache.clear()
        return True

    def _output(self, prompt: Mapping[str, Any], sampling: SamplingParams) -> SimpleNamespace:
        token_ids = tuple(prompt["prompt_token_ids"])
        place = (prompt.get("cache_salt"), token_ids)
        cached = (len(token_ids) - 1) // BLOCK * BLOCK if place in self._cache else 0
        read = self._cache.setdefault(place, self.weights)
        answer = random.Random(repr((token_ids, self.weights, read)))  # noqa: S311 - repeats itself
        tokens = [answer.randrange(VOCABULARY) for _ in range(sampling.max_tokens)]
        if self.mistakes:
            self.mistakes -= 1
            tokens[3] = (tokens[3] + 1) % VOCABULARY
        logprobs = [self._position(token, answer, sampling.logprobs or 0) for token in tokens]
        text = " ".join(map(str, tokens))
        done = SimpleNamespace(
            token_ids=tokens, text=text, finish_reason="length", stop_reason=None, logprobs=logprobs
        )
        return SimpleNamespace(outputs=[done], prompt_token_ids=list(token_ids), num_cached_tokens=cached)

    def _position(self, token: int, answer: random.Random, count: int) -> dict[int, Logprob]:
        others = [each for each in answer.sample(range(VOCABULARY), count) if each != token][: count - 1]
        off = self.jitter * self._noise.uniform(-1, 1)
        at = {token: Logprob(-0.5 - answer.random() + off, 1)}
        at |= {
            other: Logprob(-3 - rank - 0.9 * answer.random() + off, rank)
            for rank, other in enumerate(others, 2)
        }
        return at


class ScriptedAsyncLLM:
    """The same as an ``AsyncLLM``: what it answers comes in two parts, the second holds the whole."""

    def __init__(self, engine: ScriptedLLM | None = None) -> None:
        self.engine = engine or ScriptedLLM()
        self.under_way = 0
        self.most_at_once = 0

    @property
    def vllm_config(self) -> Any:
        """As vLLM's."""
        return self.engine.llm_engine.vllm_config

    def get_tokenizer(self) -> Tokenizer:
        """As vLLM's."""
        return self.engine.get_tokenizer()

    async def generate(
        self, prompt: Mapping[str, Any], sampling_params: SamplingParams, request_id: str
    ) -> AsyncIterator[SimpleNamespace]:
        """As vLLM's."""
        assert request_id.startswith("sleepwake-")
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0)
        try:
            yield SimpleNamespace(outputs=[])
            [output] = self.engine.generate([prompt], sampling_params, use_tqdm=False)
            yield output
        finally:
            self.under_way -= 1

    async def is_sleeping(self) -> bool:
        """As vLLM's."""
        return bool(self.engine.llm_engine.is_sleeping())

    async def compute_weight_checksums(self) -> list[dict[str, str]]:
        """As vLLM's."""
        return [self.engine.checksums()]

    async def sleep(self, level: int = 1, mode: str = "abort") -> None:
        """As vLLM's."""
        self.engine.sleep(level, mode)

    async def wake_up(self, tags: list[str] | None = None) -> bool:
        """As vLLM's."""
        return self.engine.wake_up(tags)

    async def pause_generation(self, *, mode: str = "abort", clear_cache: bool = True) -> None:
        """As vLLM's."""
        assert mode == "abort"
        if clear_cache:
            self.engine.reset_prefix_cache()

    async def resume_generation(self) -> None:
        """As vLLM's."""
