"""Structured outputs as regular expressions.

Of JSON schemas and grammars no more is understood than regular expressions can say: objects of enumerations
and booleans, and rules without recursion.
"""

from __future__ import annotations

import json
import re

from pydantic import BaseModel, JsonValue

from tests.fake_vllm.refusals import bad_request

_RULE = re.compile(r"^(\w+)\s*::=\s*(.*)$", re.MULTILINE)
_PART = re.compile(r'"([^"]*)"|(\w+)|(\|)|(\s+)')


class StructuredOutputs(BaseModel):
    """What an answer has to keep to; one of these."""

    json_schema: dict[str, JsonValue] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None

    @property
    def pattern(self) -> str:
        """The regular expression for it."""
        if self.json_schema is not None:
            return _of_schema(self.json_schema)
        if self.grammar is not None:
            return _of_grammar(self.grammar)
        return self.regex if self.regex is not None else "|".join(map(re.escape, self.choice or ()))


def _of_schema(schema: dict[str, JsonValue]) -> str:
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise bad_request("The provided JSON schema contains features not supported by the fake.")
    members = (f"{re.escape(json.dumps(name))}: {_of_value(value)}" for name, value in properties.items())
    return r"\{" + ", ".join(members) + r"\}"


def _of_value(value: JsonValue) -> str:
    allowed = value.get("enum", [True, False]) if isinstance(value, dict) else [True, False]
    assert isinstance(allowed, list)
    return f"({'|'.join(re.escape(json.dumps(each)) for each in allowed)})"


def _of_grammar(text: str) -> str:
    rules = dict(_RULE.findall(text))

    def expanded(name: str) -> str:
        parts = (
            expanded(rule) if rule else "|" if bar else "" if space else re.escape(words)
            for words, rule, bar, space in _PART.findall(rules[name])
        )
        return f"({''.join(parts)})"

    return expanded("root")
