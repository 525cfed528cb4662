"""What a model has against a file, said at the place in the file that it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harness.errors import ScenarioError
from harness.scenario.yaml_file import Key, YamlFile

Remedy = Callable[[YamlFile, Sequence[Key], ErrorDetails], str]
"""What to do about a mistake, by the keys that lead to it."""


def first_mistake(file: YamlFile, error: ValidationError, *, remedy: Remedy) -> ScenarioError:
    """The first mistake, as ``file:line:column`` with a remedy; the others are counted."""
    mistakes = error.errors()
    first = mistakes[0]
    # A step's tag is part of pydantic's location but not of the file.
    keys = _keys_in_file(file, first["loc"])
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    where = ".".join(str(key) for key in keys)
    message = first["msg"].removeprefix("Value error, ")
    return ScenarioError(
        f"{where + ': ' if where else ''}{message[:1].lower()}{message[1:]}{more}",
        location=file.location(keys, missing=first["type"] == "missing"),
        remedy=remedy(file, keys, first),
    )


def _keys_in_file(file: YamlFile, location: tuple[Key, ...]) -> list[Key]:
    keys: list[Key] = []
    node = file.data
    for position, key in enumerate(location):
        if isinstance(node, dict):
            if key in node:
                node = node[key]
            elif position < len(location) - 1 or (position and key == location[position - 1]):
                continue
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            # Inside a scalar, pydantic names a form the file abbreviates: point at the scalar itself.
            continue
        keys.append(key)
    return keys
