"""``verdict.json``: the judgement for machines, in the shape of :class:`RunResult`."""

from __future__ import annotations

import json
import math

from pydantic import JsonValue

from harness.check.result import RunResult
from harness.report.text import one_line


def verdict_json(result: RunResult) -> str:
    """Return ``result`` as strict JSON.

    A number that is not finite becomes null and half of a surrogate pair a question mark:
    JSON has neither, and readers differ in what they do with them.  Characters that hide or
    reorder others are written as JSON escapes, so that the file is also harmless to look at.
    """
    plain = _strict(result.model_dump(mode="json"))
    return _escaped(json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=2)) + "\n"


def _escaped(document: str) -> str:
    """Outside of its strings, JSON of ours has no such character but line breaks."""
    if document.isascii() and document.replace("\n", "").isprintable():
        return document
    return document.translate(_ESCAPES)


class _Escapes(dict[int, str]):
    """A translation table that is filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shown = json.dumps(character)[1:-1] if one_line(character) != character else character
        self[code] = shown
        return shown


_ESCAPES = _Escapes({ord("\n"): "\n"})


def _strict(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {_encodable(key): _strict(each) for key, each in value.items()}
        case list():
            return [_strict(each) for each in value]
        case str():
            return _encodable(value)
        case float() if not math.isfinite(value):
            return None
    return value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
