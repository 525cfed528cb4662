"""A user's own prompts, without YAML: one JSON value a line (JSONL), each a prompt or a chat.

.. code-block:: text

    "Why is the sky blue?"
    {"prompt": "Why is the sky blue?"}
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}

Requests as they were logged can be used as they are: what else a line says (a model, a temperature) is not
used, because all prompts are to be sampled alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.errors import ScenarioError
from harness.scenario.corpus import CorpusPrompt, Turn
from harness.scenario.reading import MEBIBYTE, read_file

MOST_BYTES = 16 * MEBIBYTE
MOST_PROMPTS = 1000

_SHAPES = 'write a line as "TEXT", {"prompt": "TEXT"} or {"messages": [{"role": "user", "content": "TEXT"}]}'

Keys = tuple[str | int, ...]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str | None = Field(default=None, min_length=1)
    messages: tuple[Turn, ...] | None = Field(default=None, min_length=1)

    @field_validator("messages", mode="before")
    @classmethod
    def _texts_in_parts(cls, value: object) -> object:
        """The parts that a message may consist of are put together, where all of them are text."""
        return [_in_one_part(each) for each in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("a line has either `prompt` or `messages`")
        if self.messages and self.messages[-1].role == "assistant":
            raise ValueError("the chat ends with an answer: leave it out, so that there is something to ask")
        return self


def _in_one_part(message: object) -> object:
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    parts = message["content"]
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return {**message, "content": "".join(texts)} if len(texts) == len(parts) else message


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A line of the file."""

    path: Path
    line: int
    text: str

    def refused(self, cause: str, *, column: int = 1, remedy: str = _SHAPES) -> ScenarioError:
        return ScenarioError(cause, location=f"{self.path}:{self.line}:{column}", remedy=remedy)

    def column_of(self, keys: Sequence[str | int]) -> int:
        """Where what ``keys`` lead to begins, or the nearest thing around it."""
        columns = dict(_columns(self.text))
        ways = (tuple(keys[:length]) for length in range(len(keys), -1, -1))
        return next((columns[way] for way in ways if way in columns), 1)


def load_prompts(path: Path) -> tuple[CorpusPrompt, ...]:
    """Read the prompts of a JSONL file, each named after its line.

    Raises:
        ScenarioError: the file cannot be read, or a line is no prompt; with ``file:line:column``.
    """
    try:
        content = read_file(path, most_bytes=MOST_BYTES, location=str(path))
    except FileNotFoundError as error:
        raise ScenarioError("no such file", location=str(path), remedy="name a file of prompts") from error
    prompts = tuple(_prompts(path, content))
    if not prompts:
        raise ScenarioError("there is no prompt in this file", location=f"{path}:1:1", remedy=_SHAPES)
    return prompts


def _prompts(path: Path, content: bytes) -> Iterator[CorpusPrompt]:
    seen: dict[object, int] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        place = _Place(path=path, line=number, text=_decoded(path, number, line))
        if not place.text.strip():
            continue
        prompt = _prompt(place)
        asked = prompt.turns
        if asked in seen:
            raise place.refused(
                f"the same prompt as in line {seen[asked]}", remedy="remove one: the second would be cached"
            )
        seen[asked] = number
        if len(seen) > MOST_PROMPTS:
            raise place.refused(
                f"more than {MOST_PROMPTS} prompts", remedy=f"keep some: head -n {MOST_PROMPTS}"
            )
        yield prompt


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode("utf-8")) + 1
        where = _Place(path=path, line=number, text="")
        raise where.refused("not UTF-8", column=column, remedy="save it as UTF-8") from error


def _prompt(place: _Place) -> CorpusPrompt:
    try:
        value = json.loads(place.text)
    except json.JSONDecodeError as error:
        raise place.refused(f"not JSON: {error.msg}", column=error.colno) from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise place.refused(f"not JSON of a kind that is taken here: {type(error).__name__}") from error
    if not isinstance(value, str | dict):
        raise place.refused(
            "neither a text nor an object", column=len(place.text) - len(place.text.lstrip()) + 1
        )
    try:
        request = _Request.model_validate({"prompt": value} if isinstance(value, str) else value)
        chat = [turn.model_dump() for turn in request.messages or ()]
        told = {"chat": chat} if chat else {"text": request.prompt}
        return CorpusPrompt.model_validate({"id": f"line-{place.line}", **told})
    except ValidationError as error:
        first = error.errors()[0]
        keys: Keys = () if isinstance(value, str) else first["loc"]
        message = str(first["msg"]).removeprefix("Value error, ")
        where = f"{'.'.join(map(str, keys))}: " if keys else ""
        raise place.refused(f"{where}{message}", column=place.column_of(keys)) from error


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def _columns(text: str) -> Iterator[tuple[Keys, int]]:
    """The column of every value in ``text``, which is JSON, by the keys that lead to it."""
    way: list[str | int | None] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in "]}":
            way.pop()
        elif word == ",":
            way[-1] = way[-1] + 1 if isinstance(way[-1], int) else None
        elif way and way[-1] is None:
            way[-1] = json.loads(word) if word != ":" else None
        elif word != ":":
            yield tuple(key for key in way if key is not None), token.start() + 1
            if word in "[{":
                way.append(0 if word == "[" else None)
