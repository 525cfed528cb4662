"""The reported bugs (``docs/catalogue.yaml``), and which scenario was written for which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from ruamel.yaml import YAML

from harness.scenario.loader import find_scenarios, load_scenario
from harness.scenario.schema import Scenario

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios"
CATALOGUE = ROOT / "docs" / "catalogue.yaml"

Class = Literal[
    "stale prefix cache",
    "lost weights",
    "lost buffers",
    "kv scales",
    "kv cache",
    "graph or decode path",
    "draft model",
    "encoder cache",
    "kv connector",
    "scheduler or protocol",
    "memory",
    "hybrid state",
    "adapter",
    "speed",
    "text of tokens",
    "grammar state",
    "stop conditions",
    "penalties and biases",
]
"""What goes wrong.  Where a verdict can name it, this is the cause's own word."""

CLASSES: tuple[Class, ...] = get_args(Class)

Ref = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+#\d+$")]


class Entry(BaseModel):
    """One reported bug."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    refs: tuple[Ref, ...] = Field(min_length=1)
    classes: tuple[Class, ...] = Field(min_length=1)
    what: str = Field(max_length=110)
    gap: str | None = None

    @property
    def counted_under(self) -> Class:
        """The class it stands under in the table."""
        return self.classes[0]


def load_catalogue() -> tuple[Entry, ...]:
    """Every reported bug, in order."""
    tree = YAML(typ="safe", pure=True).load(CATALOGUE.read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Entry, ...]).validate_python(tree)


def shipped() -> dict[str, Scenario]:
    """Every shipped scenario by the name of its file."""
    return {path.name: load_scenario(path).scenario for path in find_scenarios([SCENARIOS])}


def named_by(entry: Entry, scenarios: Mapping[str, Scenario]) -> list[str]:
    """The files of the scenarios that name one of the bug's threads among their sources."""
    return [file for file, scenario in scenarios.items() if not set(scenario.sources).isdisjoint(entry.refs)]


def unnamed(entries: Iterable[Entry], scenarios: Mapping[str, Scenario]) -> list[Entry]:
    """The bugs no scenario names."""
    return [entry for entry in entries if not named_by(entry, scenarios)]
