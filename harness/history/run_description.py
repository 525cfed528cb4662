"""``run.json``: what was asked for, on which machine, and what it ran on.

A key that is not known here makes the file unreadable rather than being overlooked.  What a run did not
have (shards, say) is not written; what an older version did not write reads as its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_serializer

from harness.errors import HistoryError
from harness.history.files import read_ordinary, replace_json
from harness.history.integrity import DIGEST, digest_of
from harness.history.layout import RUN_FILE
from harness.history.time_parts import TimeSpent

RUN_FORMAT_VERSION: Literal[1] = 1
"""The format of ``run.json`` that is written and read."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AskedOptions(_Part):
    """What a user asked for, as far as it changes what is run; enough to ask for it again."""

    paths: tuple[Path, ...] = ()
    prompts: Path | None = None
    arms: tuple[str, ...] = ()
    expression: str | None = None
    runtime: str = "auto"
    vllm: str | None = None
    image: str | None = None
    endpoint: str | None = None
    model: str | None = None
    fault: str | None = None
    shard: str | None = None
    smoke: bool = False
    thorough: bool = False
    isolate: bool = False
    vllm_args: tuple[str, ...] = ()
    kinds: str | None = None


class ChosenRuntime(_Part):
    """How servers were started, and why so."""

    name: str | None = None
    why: str = ""


class UsedModel(_Part):
    """The model; ``name`` and ``checksum`` are empty where the server brought its own."""

    name: str | None = None
    source: str = ""
    checksum: str | None = None
    bytes_on_disk: int | None = None


class Machine(_Part):
    """Where the run was asked for."""

    system: str | None = None
    processor: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    python: str | None = None


class DescribedShard(_Part):
    """Which part of a matrix the run is, and every cell of the whole matrix in order."""

    index: int
    of: int
    matrix: tuple[str, ...]


class _OfScenario(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Sampling(_OfScenario):
    """What reports need of a scenario's sampling."""

    seed: int = 0


class Deadlines(_OfScenario):
    """A scenario's deadlines, in seconds."""

    boot: float = 600.0
    answer: float = 180.0
    transition: float = 120.0


class DescribedScenario(_OfScenario):
    """The scenario as it was read; of its keys those that reports need are typed, the others are kept.

    What the rest means is for the scenario's own schema, and may be more by now.
    """

    name: str = ""
    arms: Mapping[str, JsonValue] = Field(default_factory=dict)
    sampling: Sampling = Sampling()
    deadlines: Deadlines = Deadlines()


class DescribedCell(_Part):
    """What was asked of a cell: all that decides what was sent, and no secret."""

    scenario: DescribedScenario = DescribedScenario()
    scenario_file: str = ""
    arm: str = ""
    prompts_checksum: str = ""
    sources: Mapping[str, str | Mapping[str, str]] = Field(default_factory=dict)
    """Where each of its values came from; vLLM's flags one by one under ``flags``."""
    one_of: int | None = None
    """Cells over which the error rate is split where this one is judged; None: those of the run."""


class DescribedServer(_Part):
    """What a cell's server said it is."""

    runtime: str | None = None
    command: str | None = None
    vllm_version: str | None = None
    image: str | None = None
    image_digest: str | None = None
    emulated: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()


class Resumed(_Part):
    """One time the run was carried on: when, how, and with which cells."""

    at: str
    command: tuple[str, ...]
    cells: tuple[str, ...]


class MergedShard(_Part):
    """What was a shard's own in a run that was merged."""

    run: str
    shard: DescribedShard | None = None
    started_at: str | None = None
    finished_at: str | None = None
    interrupted: bool | None = None
    command: tuple[str, ...] = ()
    machine: Machine = Machine()


class Watched(_Part):
    """What a watch knows of its server, and how far it has come; enough to take up its baseline."""

    endpoint: str
    model: str
    started: float | None = None
    """When the server's process was started, in seconds since 1970."""
    weight_version: str | None = None
    baselines: int = 0
    """How many were taken; the last one counts."""
    baseline_wake_ups: int | None = None
    """How often the engine had been woken before that; None where it does not tell."""
    checks: int = 0
    """How many were judged; those of them that are no cell any more were sound."""
    wake_ups: int = 0
    """How many were noticed."""


class RunDescription(_Part):
    """The content of ``run.json``."""

    format: Literal[1] = RUN_FORMAT_VERSION
    run: str
    sleepwake: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    interrupted: bool | None = None
    """None while it is going on."""
    ended_with: str | None = None
    """The cell that was corrupt or degraded, where no further one was to be run after such a one."""
    command: tuple[str, ...] = ()
    options: AskedOptions = AskedOptions()
    sources: Mapping[str, str] = Field(default_factory=dict)
    """Where each option's value came from."""
    runtime: ChosenRuntime = ChosenRuntime()
    model: UsedModel = UsedModel()
    fault: str | None = None
    shard: DescribedShard | None = None
    extra_args: tuple[str, ...] = ()
    machine: Machine = Machine()
    cells: Mapping[str, DescribedCell]
    resumed: tuple[Resumed, ...] = ()
    shards: tuple[MergedShard, ...] = ()
    watched: Watched | None = None
    """Of a watch alone: its cells are checks."""
    milliseconds_outside_cells: TimeSpent = TimeSpent()
    """The time that no history holds."""
    servers: Mapping[str, DescribedServer] = Field(default_factory=dict)
    """By cell; one that never had a server is not there."""
    histories: Mapping[str, str] = Field(default_factory=dict)
    """By cell that has ended: the digest its history ended with."""
    digest: str | None = None
    """Of all the rest; older runs have none."""

    @property
    def vllm_versions(self) -> tuple[str, ...]:
        """The releases that the servers said they are, each once."""
        told = (server.vllm_version for server in self.servers.values())
        return tuple(dict.fromkeys(version for version in told if version))

    @field_serializer("milliseconds_outside_cells")
    def _what_was_spent(self, spent: TimeSpent) -> dict[str, int]:
        return spent.model_dump(exclude_defaults=True)

    def as_json(self) -> dict[str, JsonValue]:
        """What stands in the file."""
        content: dict[str, JsonValue] = self.model_dump(mode="json", exclude_unset=True)
        return content


def now() -> str:
    """The time, as ``run.json`` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_description(directory: Path) -> RunDescription:
    """Read ``run.json``.

    Raises:
        HistoryError: it is missing, damaged, of another format, or does not describe a run.
    """
    path = directory / RUN_FILE
    try:
        content = json.loads(read_ordinary(path))
    except (OSError, ValueError) as error:
        raise HistoryError(
            f"cannot be read: {error}", path=path, remedy="name a run directory written by sleepwake"
        ) from error
    if not isinstance(content, dict) or not {"run", "cells"} <= content.keys():
        raise HistoryError("does not describe a run", path=path, remedy="name a run directory")
    if (found := content.get("format", RUN_FORMAT_VERSION)) != RUN_FORMAT_VERSION:
        raise HistoryError(
            f"run format {found}, this sleepwake reads format {RUN_FORMAT_VERSION}",
            path=path,
            remedy="read it with the version of sleepwake that wrote it",
        )
    if DIGEST in content and content[DIGEST] != digest_of(content):
        raise HistoryError(
            "is not as it was written: it was changed since",
            path=path,
            remedy="what it says is no evidence any more: run again",
        )
    try:
        return RunDescription.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise HistoryError(
            f"{where}: {first['msg']}",
            path=path,
            remedy="the file was changed, damaged, or written by another version of sleepwake",
        ) from error


def write_description(directory: Path, description: RunDescription) -> None:
    """Write ``run.json``, whole or not at all."""
    content = description.as_json()
    replace_json(directory / RUN_FILE, {**content, DIGEST: digest_of(content)})
