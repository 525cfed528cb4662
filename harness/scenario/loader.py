"""Reads scenario files; whatever is wrong is reported as ``file:line:column`` before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.errors import ScenarioError
from harness.scenario.coherence import mistakes
from harness.scenario.schema import STEPS, Scenario

_SUFFIXES = (".yaml", ".yml")


def load_scenario(path: Path) -> Scenario:
    """Read and validate one scenario file.

    Raises:
        ScenarioError: the file cannot be read, is not YAML, or says something a scenario cannot say.
    """
    tree = _parse_yaml(path)
    try:
        scenario = Scenario.model_validate(_plain(tree))
    except ValidationError as error:
        raise _located(path, tree, error.errors()) from error
    for mistake in mistakes(scenario.script):
        line, column = _position(tree, mistake.keys, missing=False)
        where = ".".join(str(key) for key in mistake.keys)
        raise ScenarioError(
            f"{where}: {mistake.message}", location=f"{path}:{line}:{column}", remedy=mistake.remedy
        )
    return scenario


def find_scenarios(paths: Sequence[Path]) -> list[Path]:
    """The scenario files named by ``paths``: files as they are, folders with every YAML file directly inside.

    Raises:
        ScenarioError: a path does not exist, or a folder holds no scenario.
    """
    return [file for path in paths for file in _files_of(path)]


def _files_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not files:
        raise ScenarioError(
            "no scenario in this folder", location=str(path), remedy="scenarios are files that end in .yaml"
        )
    yield from files


def _parse_yaml(path: Path) -> CommentedMap:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ScenarioError("no such file", location=str(path), remedy=_nearest_file(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(
            f"cannot be read: {error}", location=str(path), remedy="a scenario is a UTF-8 text file"
        ) from error
    yaml = YAML(typ="rt", pure=True)
    try:
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = (error.problem or "not YAML").split("\n")[0]
        raise ScenarioError(problem, location=location, remedy="correct the YAML") from error
    except (YAMLError, ValueError) as error:
        raise ScenarioError(
            f"not YAML: {error}", location=f"{path}:1:1", remedy="correct the YAML"
        ) from error
    if tree is None:
        raise ScenarioError(
            "the file is empty",
            location=f"{path}:1:1",
            remedy="scenarios/README.md shows what a scenario looks like",
        )
    if not isinstance(tree, CommentedMap):
        raise ScenarioError(
            "a scenario is a mapping that begins with `name:`",
            location=f"{path}:1:1",
            remedy="scenarios/README.md shows what a scenario looks like",
        )
    return tree


def _nearest_file(path: Path) -> str:
    folder = path.parent
    names = [file.name for file in folder.iterdir() if file.suffix in _SUFFIXES] if folder.is_dir() else []
    nearest = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {folder / nearest[0]}?" if nearest else "name a scenario file or a folder of them"


def _plain(node: object) -> object:
    """The same data in plain containers: pydantic's strictness must not see ruamel's subclasses."""
    if isinstance(node, CommentedMap):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(item) for item in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _located(path: Path, tree: CommentedMap, errors: Sequence[ErrorDetails]) -> ScenarioError:
    """The first error, as file:line:column with a remedy; the others are counted."""
    error = errors[0]
    # A step's tag is part of pydantic's location but not of the file.
    keys = _keys_in_file(tree, error["loc"])
    line, column = _position(tree, keys, missing=error["type"] == "missing")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    where = ".".join(str(key) for key in keys)
    message = error["msg"].removeprefix("Value error, ")
    return ScenarioError(
        f"{where + ': ' if where else ''}{message[:1].lower()}{message[1:]}{more}",
        location=f"{path}:{line}:{column}",
        remedy=_remedy(tree, keys, error),
    )


def _keys_in_file(tree: CommentedMap, location: tuple[int | str, ...]) -> list[int | str]:
    keys: list[int | str] = []
    node: object = tree
    for position, key in enumerate(location):
        if isinstance(node, CommentedMap):
            if key in node:
                node = node[key]
            elif position < len(location) - 1:
                continue
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            # Inside a scalar, pydantic names a form the file abbreviates: point at the scalar itself.
            continue
        keys.append(key)
    return keys


def _position(tree: CommentedMap, keys: Sequence[int | str], *, missing: bool) -> tuple[int, int]:
    node: object = tree
    line, column = tree.lc.line, tree.lc.col
    for key in keys:
        if isinstance(node, CommentedMap) and key in node:
            line, column = node.lc.key(key)
        elif isinstance(node, CommentedSeq) and isinstance(key, int):
            line, column = node.lc.item(key)
        elif missing:
            break
        node = node[key] if isinstance(node, CommentedMap | CommentedSeq) and _holds(node, key) else None
    return line + 1, column + 1


def _holds(node: CommentedMap | CommentedSeq, key: int | str) -> bool:
    return key in node if isinstance(node, CommentedMap) else isinstance(key, int) and key < len(node)


def _remedy(tree: CommentedMap, keys: Sequence[int | str], error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        known = _known_keys(keys)
        nearest = difflib.get_close_matches(str(keys[-1]), known, n=1)
        return (
            f"did you mean `{nearest[0]}`?" if nearest else "`sleepwake schema scenario` lists what is known"
        )
    if error["type"] == "unknown_step":
        node: object = tree
        for key in keys:
            node = node[key] if isinstance(node, CommentedMap | CommentedSeq) else None
        names = [str(key) for key in node] if isinstance(node, CommentedMap) else [str(node)]
        nearest = [match for name in names for match in difflib.get_close_matches(name, STEPS, n=1)]
        return f"did you mean `{nearest[0]}`?" if nearest else "write a step as `- name: {options}`"
    if error["type"] == "missing":
        return f"add `{keys[-1]}:`"
    return "`sleepwake schema scenario` describes every key"


def _known_keys(keys: Sequence[int | str]) -> list[str]:
    """Every key a scenario knows anywhere: close enough to find a slip of the fingers."""
    schema = Scenario.model_json_schema()
    models = [schema, *schema.get("$defs", {}).values()]
    known = {name for model in models for name in model.get("properties", {})}
    return sorted(known - {str(key) for key in keys[:-1]})
