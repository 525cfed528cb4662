"""Kinds of requests: one small module a family, each kind with an oracle of its own.

A probe's prompts are all of one kind: text in, text out.  People ask for JSON by a schema, stop strings,
several answers or a stream, and each of these has state of its own in the engine that a sleep may lose.
A kind is asked before and after, as a probe is, and what comes back is held against the baseline's answer.
Besides, its oracle says what is right whatever the baseline was: that holds on the noisiest engine.
"""

from __future__ import annotations

from types import MappingProxyType

from harness.kinds import chats, lengths, sampled, steering, stops, streams, structured
from harness.kinds.kind import Kind, Question, Setting

__all__ = ["KINDS", "Kind", "Question", "Setting"]

_KINDS = (
    lengths.SHORT,
    streams.STREAMED,
    chats.TURNS,
    chats.TOOLS,
    structured.JSON_SCHEMA,
    structured.EXPRESSION,
    structured.ONE_OF,
    structured.BY_GRAMMAR,
    stops.STOP_STRINGS,
    stops.STOP_IDS,
    steering.PENALTIES,
    steering.FREQUENCY,
    steering.BIAS,
    steering.BAD_WORDS,
    steering.ALLOWED_IDS,
    steering.LEAST_TOKENS,
    sampled.SEEDED,
    sampled.SEVERAL,
    lengths.PROMPT_LOGPROBS,
    lengths.TO_THE_END,
    lengths.MANY,
)

KINDS = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Every kind by its name, in the order in which they are asked."""
