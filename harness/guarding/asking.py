"""Asks the engine, by way of the process that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import IO, Protocol

from pydantic import JsonValue

from harness.errors import EngineFailedError
from harness.guarding.messages import Checksums, Engine, Generated, Tokenized

LIKELIEST = 5
"""How many candidates of every token are asked for."""


class Holder(Protocol):
    """The process that holds the engine."""

    def ask(self, question: Mapping[str, object]) -> Mapping[str, JsonValue]:
        """Put a question, and return the answer."""


class Line:
    """Speaks to that process over two streams: one line of JSON a message."""

    def __init__(self, incoming: IO[str], outgoing: IO[str]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def say(self, message: Mapping[str, object]) -> None:
        """Say something that waits for no answer."""
        self._outgoing.write(json.dumps(message) + "\n")
        self._outgoing.flush()

    def hear(self) -> dict[str, JsonValue] | None:
        """Wait for what is said next; None once nobody is left to say anything."""
        line = self._incoming.readline()
        if not line:
            return None
        message: dict[str, JsonValue] = json.loads(line)
        return message

    def ask(self, question: Mapping[str, object]) -> Mapping[str, JsonValue]:
        """Put a question, and return the answer.

        Raises:
            EngineFailedError: the engine raised, or whoever holds it is gone.
        """
        self.say(question)
        answer = self.hear()
        if answer is None:
            raise EngineFailedError("the process that holds the engine is gone")
        if "failed" in answer:
            raise EngineFailedError(f"the engine did not answer: {answer['failed']}")
        return answer


def tokenize(holder: Holder, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Let the engine's own tokenizer and chat template make token ids of ``texts``."""
    return Tokenized.model_validate(
        holder.ask({"ask": "tokens", "of": "guarded", "texts": list(texts)})
    ).tokens


def weight_checksums(holder: Holder, *, of: Engine = "guarded") -> Mapping[str, str] | None:
    """Ask for the checksum of every parameter; None where the engine does not tell."""
    return Checksums.model_validate(holder.ask({"ask": "checksums", "of": of})).checksums


def generate(
    holder: Holder,
    prompts: Sequence[Sequence[int]],
    *,
    salt: str | None,
    max_tokens: int,
    of: Engine = "guarded",
) -> Generated:
    """Ask for the greedy continuation of every prompt, all at once."""
    sampling = {"temperature": 0.0, "max_tokens": max_tokens, "logprobs": LIKELIEST, "seed": 0}
    question = {
        "ask": "answers",
        "of": of,
        "prompts": [list(prompt) for prompt in prompts],
        "salt": salt,
        "sampling": sampling,
    }
    return Generated.model_validate(holder.ask(question))
