"""Requests of other kinds than a probe's: what was asked of each, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, JsonValue

from harness.history.event_base import CallFailure, Frozen, Timed
from harness.history.passes import Role


class ToolCall(Frozen):
    """A function that an answer calls."""

    name: str
    arguments: str = Field(description="as they came: JSON, if the answer is right")


class KindChoice(Frozen):
    """One of the answers to a request, which has several where ``n`` says so."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = Field(default=(), description="of each token")
    ranks: tuple[int, ...] = Field(
        default=(), description="of each token among the candidates that were told: 1 is the likeliest"
    )
    candidates: tuple[tuple[int, float], ...] = Field(
        default=(), description="of the first token: the tokens that were told, with their log-probabilities"
    )
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class KindAnswer(Frozen):
    """One request, and what came back for it: choices, or a failure."""

    path: str
    body: Mapping[str, JsonValue] = Field(description="what was asked, without model and cache salt")
    streamed: bool = False
    choices: tuple[KindChoice, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_logprobs: tuple[float | None, ...] = Field(
        default=(), description="of each token of the prompt; the first has none"
    )
    retold: str | None = Field(
        default=None, description="the text of the first choice's tokens, as `/detokenize` tells it"
    )
    seconds: float = 0.0
    failure: CallFailure | None = None


class KindAnswered(Timed):
    """Everything that was asked of one kind at one probe."""

    kind: Literal["kind_answered"] = "kind_answered"
    asks: str = Field(description="the name of the kind")
    step: str
    probe: str
    role: Role
    reference: str
    cycle: int = 0
    again: bool = Field(
        default=False, description="asked once more, alone, since it was not answered as in the baseline"
    )
    in_flight: bool = Field(default=False, description="sent beside the script, and under way at its steps")
    answers: tuple[KindAnswer, ...]
