"""One request on its way through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from tests.fake_vllm import vocabulary
from tests.fake_vllm.blocks import chain_hash
from tests.fake_vllm.model import Array, Weights

FinishReason: TypeAlias = Literal["stop", "length", "abort"]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A loaded LoRA adapter."""

    name: str
    path: str
    weights: Weights


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What a request asks of the sampler."""

    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    ignore_eos: bool = False
    forced: tuple[int, ...] = ()
    """The answer to come, whatever is likelier."""
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict)
    allowed: tuple[int, ...] | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()
    structure: str | None = None
    """The regular expression that the answer has to keep to."""


@dataclass(kw_only=True, eq=False)
class Sequence:
    """A request, what has been computed for it, and what has been generated."""

    tokens: list[int]
    sampling: Sampling
    salt: str | None = None
    adapter: Adapter | None = None
    wants_prompt_logprobs: bool = False

    prompt_length: int = field(init=False)
    random: np.random.Generator = field(init=False)
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    is_shuffled: bool = False
    """Whether the logits of all its tokens are shuffled."""
    cached: int | None = None
    logprobs: list[Array] = field(default_factory=list)
    """For each generated token those of the whole vocabulary at its position."""
    prompt_logprobs: list[Array] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    garbles: bool = False
    """Whether its text is no longer that of its tokens."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever it has got a token or an end."""
    _hashes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)
        self.random = np.random.default_rng(self.sampling.seed)

    @property
    def generated(self) -> list[int]:
        """The answer so far."""
        return self.tokens[self.prompt_length :]

    @property
    def text(self) -> str:
        """What the answer reads so far, up to what stopped it."""
        tokens = self.generated
        if isinstance(self.stop_reason, int):
            tokens = tokens[:-1]
        text = vocabulary.decode(tokens)
        if isinstance(self.stop_reason, str):
            text = text[: text.index(self.stop_reason)]
        return text.swapcase() if self.garbles else text

    @property
    def longest(self) -> int:
        """How many tokens it can reach."""
        return self.prompt_length + self.sampling.max_tokens

    def hashes(self, count: int, block_size: int) -> list[bytes]:
        """The hashes of its first ``count`` blocks; the salt enters the first and thereby all of them."""
        while len(self._hashes) < count:
            start = len(self._hashes) * block_size
            self._hashes.append(
                chain_hash(
                    self._hashes[-1] if self._hashes else b"",
                    self.tokens[start : start + block_size],
                    *((self.adapter.name, self.adapter.path) if self.adapter else (None, None)),
                    None if self._hashes else self.salt,
                )
            )
        return self._hashes[:count]

    def hashes_under_any_salt(self, count: int, block_size: int) -> list[bytes]:
        """What the hashes would be if salts did not enter them."""
        twin = Sequence(tokens=self.tokens, sampling=self.sampling, adapter=self.adapter)
        return twin.hashes(count, block_size)

    def stopped_by(self) -> int | str | None:
        """The stop string or stop id that its last token completes; None where it goes on."""
        if len(self.generated) <= self.sampling.min_tokens:
            return None
        if self.tokens[-1] in self.sampling.stop_token_ids:
            return self.tokens[-1]
        text = vocabulary.decode(self.generated) if self.sampling.stop else ""
        return next((stop for stop in self.sampling.stop if stop in text), None)

    def finish(self, reason: FinishReason) -> None:
        """End it; whoever waits for it goes on."""
        self.finish_reason = reason
        self.finished.set()
        self.news.set()
