"""What a guard uses of vLLM's objects in every release; what only some have is asked for by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from typing import Any, Protocol


class Tokenizer(Protocol):
    """Of the model."""

    def encode(self, text: str, **options: bool) -> Sequence[int]:
        """Token ids of a text."""

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **options: bool) -> str:
        """A chat as one text."""


class Logprob(Protocol):
    """Of one candidate for a token."""

    logprob: float


class Completion(Protocol):
    """One answer."""

    token_ids: Sequence[int]
    text: str
    finish_reason: str | None
    stop_reason: int | str | None
    logprobs: Sequence[Mapping[int, Logprob]] | None


class RequestOutput(Protocol):
    """What comes of one prompt."""

    outputs: Sequence[Completion]


class LLM(Protocol):
    """``vllm.LLM``."""

    def get_tokenizer(self) -> Tokenizer:
        """Its tokenizer."""

    def get_default_sampling_params(self) -> object:
        """Those of the model, of the class that this release has for them."""

    def generate(
        self, prompts: Sequence[Mapping[str, Any]], sampling: object, /, *, use_tqdm: bool, **adapter: object
    ) -> Iterable[RequestOutput]:
        """Answer all prompts."""


class AsyncLLM(Protocol):
    """``vllm.v1.engine.async_llm.AsyncLLM``."""

    def get_tokenizer(self) -> Tokenizer:
        """Its tokenizer."""

    def is_sleeping(self) -> Awaitable[bool]:
        """Whether it rests."""

    def generate(
        self, prompt: Mapping[str, Any], sampling: object, request_id: str, /, **adapter: object
    ) -> AsyncIterator[RequestOutput]:
        """Answer one prompt; every output holds the whole answer so far."""
