"""What a kind of request is: what it asks, and what every right answer has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import JsonValue

from harness.history.kinds import KindAnswer, KindChoice

Path: TypeAlias = Literal["/v1/completions", "/v1/chat/completions"]
Body: TypeAlias = Mapping[str, JsonValue]

COMPLETIONS: Path = "/v1/completions"
CHAT: Path = "/v1/chat/completions"

PROMPT = "The river runs through the old city, and in the evening the people of the city"
"""Fewer tokens than the smallest block of a KV cache has."""

TOKENS = 8
"""Of an answer that says nothing else: what a kind is about shows in few."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, without its model and cache salt.

    ``copies`` are sent at the same time; ``streamed`` asks for the answer in parts; ``retold`` has the server
    tell as well what the tokens read.
    """

    body: Body
    path: Path = COMPLETIONS
    copies: int = 1
    streamed: bool = False
    retold: bool = False


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known when questions are put together.

    Attributes:
        token_ids: What the engine answers to :data:`PROMPT` when nothing else is asked, before it ever slept.
        pieces: What each of these tokens reads.
        end_of_sequence: Tokens that end an answer; empty where nobody tells.
        max_model_len: How long prompt and answer can be together; None where nobody tells.
        slots: How many requests run at a time; None where nobody tells.
        long_prompt: A prompt of several blocks.
    """

    token_ids: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()
    end_of_sequence: tuple[int, ...] = ()
    max_model_len: int | None = None
    slots: int | None = None
    long_prompt: tuple[int, ...] = ()

    @property
    def own_ids(self) -> tuple[int, ...]:
        """The tokens of the plain answer, each once and without an end."""
        return tuple(dict.fromkeys(each for each in self.token_ids if each not in self.end_of_sequence))

    @property
    def words(self) -> tuple[tuple[int, str], ...]:
        """The tokens of the plain answer that read as letters alone, and what each reads."""
        read = ((token, piece.strip()) for token, piece in zip(self.token_ids, self.pieces, strict=False))
        return tuple((token, word) for token, word in read if word.isalpha())


Ask: TypeAlias = Callable[[Setting], Sequence[Question]]
Oracle: TypeAlias = Callable[[Sequence[KindAnswer]], Iterator[str]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way in which people use an engine, with its own oracle besides equality.

    Attributes:
        name: By which ``--kinds`` and reports mean it.
        summary: What it asks, in one line.
        cause: The root-cause class that its oracle accuses, in the report's words.
        ask: Makes its questions; none where the setting does not allow it.
        oracle: Yields what is wrong with its answers, one sentence each, whatever the baseline said.
        cheap: Whether it is asked unless ``--kinds`` says otherwise.
        drawn: Whether each of its answers is a single token that is drawn with a seed of its own among the
            candidates that are told: how often such may differ in a noisy engine can be reckoned.
    """

    name: str
    summary: str
    cause: str
    ask: Ask
    oracle: Oracle
    cheap: bool = True
    drawn: bool = False

    def violations(self, answers: Sequence[KindAnswer]) -> Iterator[str]:
        """What is wrong with its answers: what would be wrong with any, then what its own oracle says."""
        for answer in answers:
            yield from unsound(answer)
        if answers and all(answer.choices for answer in answers):
            yield from self.oracle(answers)


def unsound(answer: KindAnswer) -> Iterator[str]:
    """What no answer may do, of whatever kind."""
    if answer.failure is not None:
        yield f"no answer: {answer.failure.message}"
        return
    wanted = answer.body.get("n", 1)
    if len(answer.choices) != wanted:
        yield f"{len(answer.choices)} answers came instead of {wanted}"
    counted = sum(len(choice.token_ids) for choice in answer.choices)
    if answer.completion_tokens is not None and answer.completion_tokens != counted:
        yield f"{counted} tokens came, but usage says {answer.completion_tokens}"
    for choice in answer.choices:
        yield from _unfinished(choice, cap=answer.body.get("max_tokens"))


def _unfinished(choice: KindChoice, *, cap: JsonValue) -> Iterator[str]:
    if choice.finish_reason in {None, "error", "abort"}:
        yield f"ended with finish reason {choice.finish_reason!r}"
    if not isinstance(cap, int):
        return
    if len(choice.token_ids) > cap:
        yield f"{len(choice.token_ids)} tokens came, but only {cap} were allowed"
    if choice.finish_reason == "length" and len(choice.token_ids) < cap:
        yield f"ended by length after {len(choice.token_ids)} of {cap} tokens"


def texts(answers: Sequence[KindAnswer]) -> Iterator[str]:
    """The text of every choice."""
    return (choice.text for answer in answers for choice in answer.choices)


def choices(answers: Sequence[KindAnswer]) -> Iterator[KindChoice]:
    """Every choice of every answer."""
    return (choice for answer in answers for choice in answer.choices)


def only(answer: KindAnswer, name: str) -> JsonValue:
    """The one value, or the one name, in a field of what was asked."""
    value = answer.body.get(name)
    return next(iter(value), None) if isinstance(value, list | dict) else value


def greedy(**fields: JsonValue) -> dict[str, JsonValue]:
    """A completion of :data:`PROMPT` without chance, with further fields or others."""
    return {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, **fields}


def nothing_more(_: Sequence[KindAnswer]) -> Iterator[str]:
    """Say nothing: what is wrong with any answer is all that can be told without the baseline."""
    return iter(())
