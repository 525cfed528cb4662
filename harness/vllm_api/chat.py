"""``/v1/chat/completions``: the one way to send pictures, which have no token ids of their own.

The server's chat template makes the prompt, so what it makes has to be asked for beforehand
(:func:`harness.vllm_api.lifecycle.tokenize_chat`).
Shapes: vllm/entrypoints/openai/chat_completion/protocol.py (0.32).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pydantic import JsonValue

from harness.vllm_api.completion import (
    Body,
    GeneratedChoice,
    GeneratedCompletion,
    NamedTokenId,
    TokenLogprobs,
    Usage,
)

Message: TypeAlias = Mapping[str, JsonValue]
"""One turn of a chat: ``role`` and ``content``."""


def user_message(text: str, *, picture: str | None = None) -> Message:
    """One turn of a user; the picture, a ``data:`` URL, is shown before the text."""
    if picture is None:
        return {"role": "user", "content": text}
    parts: list[JsonValue] = [
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": text},
    ]
    return {"role": "user", "content": parts}


class _Candidate(Body):
    token: NamedTokenId
    logprob: float


class _Position(_Candidate):
    """The token that was taken, and the likeliest."""

    top_logprobs: tuple[_Candidate, ...]

    @property
    def candidates(self) -> dict[int, float]:
        """Log-probabilities by token id, the taken token's among them."""
        return {each.token: each.logprob for each in (self, *self.top_logprobs)}


class _Logprobs(Body):
    content: tuple[_Position, ...]


class _Message(Body):
    content: str | None = None


class _Choice(Body):
    message: _Message
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: _Logprobs


class GeneratedChat(Body):
    """The whole answer to a chat that was asked for with ``logprobs``."""

    choices: tuple[_Choice]
    usage: Usage
    system_fingerprint: str | None = None

    def as_completion(self) -> GeneratedCompletion:
        """The same in the shape of a completion."""
        choice = self.choices[0]
        positions = choice.logprobs.content
        logprobs = TokenLogprobs.model_construct(
            tokens=tuple(each.token for each in positions),
            token_logprobs=tuple(each.logprob for each in positions),
            top_logprobs=tuple(each.candidates for each in positions),
        )
        return GeneratedCompletion(
            choices=(
                GeneratedChoice(
                    text=choice.message.content or "",
                    finish_reason=choice.finish_reason,
                    stop_reason=choice.stop_reason,
                    logprobs=logprobs,
                ),
            ),
            usage=self.usage,
            system_fingerprint=self.system_fingerprint,
        )
