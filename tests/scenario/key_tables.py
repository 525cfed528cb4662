"""Writes the tables of ``scenarios/README.md`` from the schema: ``python -m tests.scenario.key_tables``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.scenario.schema import Scenario
from harness.scenario.script import STEPS
from harness.scenario.steps.base import CallOptions
from tests.marked_part import with_part

README = Path(__file__).parents[2] / "scenarios" / "README.md"

Schema = Mapping[str, Any]  # JSON Schema
Row = tuple[str, str, str, str]

_SCHEMA: Schema = Scenario.model_json_schema()
_DEFINITIONS: Mapping[str, Schema] = _SCHEMA["$defs"]

_COMMON = frozenset(CallOptions.model_fields)
"""Options that every call has: they are told once."""


def with_tables(text: str) -> str:
    """``text`` with both tables written anew, each between its marks."""
    text = with_part(text, "keys", _table("key", _rows(_SCHEMA)))
    of_any_call = _rows(CallOptions.model_json_schema(), "CALL.")
    of_steps = (
        row for step in STEPS.values() for row in _rows(_DEFINITIONS[step.__name__], leave_out=_COMMON)
    )
    return with_part(text, "steps", _table("option of a step", (*of_any_call, *of_steps)))


def _table(heading: str, rows: Iterable[Row]) -> str:
    lines = [(heading, "value", "default", "means"), ("---",) * 4, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(model: Schema, prefix: str = "", *, leave_out: Collection[str] = ()) -> Iterator[Row]:
    for name, value in model.get("properties", {}).items():
        if name in leave_out:
            continue
        if inner := _inner(value):
            yield from _rows(inner, f"{prefix}{name}.", leave_out=leave_out)
        else:
            default = "required" if name in model.get("required", ()) else _default(value.get("default"))
            yield f"`{prefix}{name}`", _kind(value), default, value.get("description", "")
        for named in value.get("patternProperties", {}).values():
            yield from _rows(_inner(named) or {}, f"{prefix}{name}.NAME.")


def _inner(value: Schema) -> Schema | None:
    """What ``value`` refers to, where that is one model."""
    if "anyOf" in value:
        given = [each for each in value["anyOf"] if each != {"type": "null"}]
        return _inner(given[0]) if len(given) == 1 else None
    return _DEFINITIONS[value["$ref"].rpartition("/")[2]] if "$ref" in value else None


def _default(value: object) -> str:
    return "" if value in (None, [], {}) else f"`{json.dumps(value)}`".replace('"', "")


_WORDS = {"object": "mapping", "boolean": "`true`, `false`", "integer": "whole number", "number": "number"}


def _kind(value: Schema) -> str:
    """A type in words."""
    if "enum" in value or "const" in value:
        return ", ".join(f"`{each}`" for each in value.get("enum", [value.get("const")]))
    if "anyOf" in value:
        return " or ".join(_kind(each) for each in value["anyOf"] if each != {"type": "null"})
    if "oneOf" in value or "$ref" in value:
        return "steps"
    if value["type"] == "array":
        return f"list of {_kind(value['items']).replace('number', 'numbers')}"
    if value["type"] == "string":
        return "name" if "pattern" in value else "text"
    return f"{_WORDS[value['type']]}{_range(value)}"


def _range(value: Schema) -> str:
    limits = {
        " > ": value.get("exclusiveMinimum"),
        " >= ": value.get("minimum"),
        " <= ": value.get("maximum"),
    }
    words = {sign: f"{limit:g}" for sign, limit in limits.items() if limit is not None}
    if words.keys() == {" >= ", " <= "}:
        return f" {words[' >= ']} to {words[' <= ']}"
    if words.keys() == {" > ", " <= "}:
        return f" > {words[' > ']}, at most {words[' <= ']}"
    return "".join(f"{sign}{limit}" for sign, limit in words.items())


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
