"""Reads scenario files; whatever is wrong is reported as ``file:line:column`` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harness.errors import ScenarioError, did_you_mean
from harness.installation import shipped_names
from harness.scenario.coherence import mistakes
from harness.scenario.schema import Scenario
from harness.scenario.script import STEPS
from harness.scenario.validation import first_mistake
from harness.scenario.yaml_file import Key, YamlFile, load_yaml

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class ScenarioFile:
    """A scenario and the file that says it."""

    scenario: Scenario
    file: YamlFile

    def refusal(self, *keys: Key, cause: str, remedy: str) -> ScenarioError:
        """What is wrong with what ``keys`` lead to, although it stands there correctly."""
        where = ".".join(str(key) for key in keys)
        return ScenarioError(f"{where}: {cause}", location=self.file.location(keys), remedy=remedy)


def load_scenario(path: Path) -> ScenarioFile:
    """Read and validate one scenario file.

    Raises:
        ScenarioError: the file cannot be read, is not YAML, or says something a scenario cannot say.
    """
    file = _read(path)
    try:
        loaded = ScenarioFile(scenario=Scenario.model_validate(file.data), file=file)
    except ValidationError as error:
        raise first_mistake(file, error, remedy=_remedy) from error
    for mistake in mistakes(loaded.scenario.script):
        raise loaded.refusal(*mistake.keys, cause=mistake.message, remedy=mistake.remedy)
    return loaded


def find_scenarios(paths: Sequence[Path]) -> list[Path]:
    """The scenario files named by ``paths``.

    A folder stands for every YAML file directly inside; what is no path is the name of a scenario that ships.

    Raises:
        ScenarioError: a path does not exist, or a folder holds no scenario.
    """
    return [file for path in paths for file in _files_of(path)]


def _files_of(path: Path) -> Iterator[Path]:
    try:
        if not path.is_dir():
            shipped = None if path.exists() else shipped_names().get(str(path))
            yield shipped or path
            return
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    except OSError as error:
        raise ScenarioError(
            f"cannot be read: {error.strerror}", location=str(path), remedy="name a readable file or folder"
        ) from error
    if not files:
        raise ScenarioError(
            "no scenario in this folder", location=str(path), remedy="scenarios are files that end in .yaml"
        )
    yield from files


def _read(path: Path) -> YamlFile:
    try:
        file = load_yaml(path)
    except FileNotFoundError as error:
        raise ScenarioError("no such file", location=str(path), remedy=_nearest_file(path)) from error
    if not isinstance(file.data, dict):
        raise ScenarioError(
            "the file is empty" if file.data is None else "a scenario is a mapping that begins with `name:`",
            location=file.location(),
            remedy="`sleepwake schema scenario` describes every key",
        )
    return file


def _nearest_file(path: Path) -> str:
    folder = path.parent
    names = [str(file) for file in folder.iterdir() if file.suffix in _SUFFIXES] if folder.is_dir() else []
    otherwise = "name a scenario file, a folder, or one that ships"
    return did_you_mean(str(path), [*names, *shipped_names()], otherwise=otherwise, quoted="{}")


def _remedy(file: YamlFile, keys: Sequence[Key], error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        otherwise = "`sleepwake schema scenario` lists the known keys"
        return did_you_mean(str(keys[-1]), _known_keys(keys), otherwise=otherwise, quoted="`{}`")
    if error["type"] == "unknown_step":
        step = file.at(keys)
        names = step if isinstance(step, dict) else [step]
        hints = (did_you_mean(str(name), STEPS, otherwise="", quoted="`{}`") for name in names)
        return next(filter(None, hints), "write a step as `- name: {options}`")
    if error["type"] == "missing":
        return f"add `{keys[-1]}:`"
    return "`sleepwake schema scenario` describes every key"


def _known_keys(keys: Sequence[Key]) -> list[str]:
    """Every key a scenario knows anywhere: close enough to find a slip of the fingers."""
    schema = Scenario.model_json_schema()
    models = [schema, *schema.get("$defs", {}).values()]
    known = {name for model in models for name in model.get("properties", {})}
    return sorted(known - {str(key) for key in keys[:-1]})
