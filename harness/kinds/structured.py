"""Structured outputs: answers that a schema, an expression, a choice or a grammar allows, and no others.

Each oracle is a library that knows nothing of vLLM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

from pydantic import JsonValue

from harness.history.kinds import KindAnswer
from harness.kinds.kind import Kind, Question, Setting, choices, greedy, texts

CAUSE = "grammar state"

_PLACES = ("city", "river", "sea")
SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"place": {"enum": [*_PLACES]}},
    "required": ["place"],
    "additionalProperties": False,
}
REGEX = "[A-Z]{3}-[0-9]{2}"
CHOICE: list[JsonValue] = ["north", "south", "east", "west"]
GRAMMAR = 'root ::= "go " way " " steps\nway ::= "north" | "south"\nsteps ::= "1" | "2" | "3"\n'
ALLOWED_BY_GRAMMAR = "go (north|south) [123]"

_ROOM = 40
"""Tokens: more than any of these answers has, so that one that is cut off is wrong."""


def _asks(constraint: dict[str, JsonValue]) -> Callable[[Setting], Sequence[Question]]:
    question = Question(body=greedy(structured_outputs=constraint, max_tokens=_ROOM))
    return lambda _: (question,)


def schema_errors(text: str, schema: JsonValue) -> str | None:
    """What is wrong with JSON by its schema; None if nothing is."""
    import jsonschema  # type: ignore[import-untyped]  # it ships no types

    try:
        jsonschema.validate(json.loads(text), schema)
    except ValueError:
        return f"is not JSON: {text!r}"
    except jsonschema.ValidationError as error:
        return f"is not valid by the schema: {error.message}"
    return None


def _by_schema(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for choice in choices(answers):
        cut_off = choice.finish_reason == "length" and _may_become_right(choice.text)
        if not cut_off and (wrong := schema_errors(choice.text, SCHEMA)):
            yield f"an answer that had to follow a JSON schema {wrong}"


def _may_become_right(text: str) -> bool:
    """Whether a right answer begins so: any amount of space is allowed, so that one may be cut off."""
    begun = "".join(text.split())
    return any(f'{{"place":"{place}"}}'.startswith(begun) for place in _PLACES)


def _by_expression(pattern: str, what: str) -> Callable[[Sequence[KindAnswer]], Iterator[str]]:
    def check(answers: Sequence[KindAnswer]) -> Iterator[str]:
        for text in texts(answers):
            if re.fullmatch(pattern, text) is None:
                yield f"{text!r} is not {what}"

    return check


JSON_SCHEMA = Kind(
    name="json-schema",
    summary="a JSON schema, held against by jsonschema",
    cause=CAUSE,
    ask=_asks({"json": SCHEMA}),
    oracle=_by_schema,
)
EXPRESSION = Kind(
    name="regex",
    summary="a regular expression, held against by re",
    cause=CAUSE,
    ask=_asks({"regex": REGEX}),
    oracle=_by_expression(REGEX, f"what the expression {REGEX} allows"),
)
ONE_OF = Kind(
    name="choice",
    summary="one of four words",
    cause=CAUSE,
    ask=_asks({"choice": CHOICE}),
    oracle=_by_expression("|".join(map(str, CHOICE)), "one of the choices"),
)
BY_GRAMMAR = Kind(
    name="grammar",
    summary="a grammar of three rules, held against by an expression for the same",
    cause=CAUSE,
    ask=_asks({"grammar": GRAMMAR}),
    oracle=_by_expression(ALLOWED_BY_GRAMMAR, "what the grammar allows"),
)
