"""Chats: the template with a system prompt, and a tool that the answer has to call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from harness.history.kinds import KindAnswer
from harness.kinds.kind import CHAT, TOKENS, Kind, Question, Setting, choices
from harness.kinds.structured import CAUSE as GRAMMAR
from harness.kinds.structured import SCHEMA, schema_errors

_QUESTION: JsonValue = {"role": "user", "content": "Name a city by a river."}
_SYSTEM: JsonValue = {"role": "system", "content": "You are a sailor. Answer in rhymes."}

_MARK = re.compile(r"<\|\w+\|>")
"""What templates put around turns."""

_TOOL = "find_place"
_FUNCTION: JsonValue = {
    "name": _TOOL,
    "description": "Find a place.",
    "parameters": SCHEMA,
    "strict": True,  # without it vLLM leaves the arguments to the model
}
_TOOLS: JsonValue = [{"type": "function", "function": _FUNCTION}]
_ROOM = 64


def _ask_twice(_: Setting) -> Sequence[Question]:
    def asked(*turns: JsonValue) -> Question:
        return Question(path=CHAT, body={"messages": [*turns], "max_tokens": TOKENS, "temperature": 0})

    return asked(_SYSTEM, _QUESTION), asked(_QUESTION)


def _as_a_turn(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for choice in choices(answers):
        if found := _MARK.search(choice.text):
            yield f"the template's own {found[0]} stands in the answer"
    lengths = {answer.prompt_tokens for answer in answers}
    if len(lengths) < len(answers):
        yield "a system prompt makes the prompt no longer, or shorter"


def _ask_for_a_call(_: Setting) -> Sequence[Question]:
    chosen: JsonValue = {"type": "function", "function": {"name": _TOOL}}
    body: dict[str, JsonValue] = {"messages": [_QUESTION], "max_tokens": _ROOM, "temperature": 0}
    return (Question(path=CHAT, body={**body, "tools": _TOOLS, "tool_choice": chosen}),)


def _calls_it(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for choice in choices(answers):
        names = [call.name for call in choice.tool_calls]
        if choice.finish_reason == "length":
            continue  # cut off, as any amount of space between the parts is allowed
        if names != [_TOOL]:
            yield f"calls {names or 'no tool'} instead of {_TOOL}"
        elif wrong := schema_errors(choice.tool_calls[0].arguments, SCHEMA):
            yield f"what it calls {_TOOL} with {wrong}"


TURNS = Kind(
    name="chat",
    summary="a chat with and without a system prompt, by the model's template",
    cause="scheduler or protocol",
    ask=_ask_twice,
    oracle=_as_a_turn,
)
TOOLS = Kind(
    name="tools",
    summary="a chat whose answer has to call a function: its arguments must be valid by the schema",
    cause=GRAMMAR,
    ask=_ask_for_a_call,
    oracle=_calls_it,
    cheap=False,  # takes a server with --tool-call-parser
)
