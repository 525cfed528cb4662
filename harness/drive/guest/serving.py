"""Which arms of a scenario are what a server runs: arms are flags, and its flags are its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from pydantic import JsonValue

from harness.drive.introduction import SERVER_INFO_DEADLINE_S, told
from harness.scenario.cells import Cell
from harness.servers.flags import flag_name
from harness.vllm_api import lifecycle
from harness.vllm_api.connection import Connection
from harness.vllm_api.metrics import read_metrics

_SHOWN_BY: Mapping[str, tuple[str, str]] = {
    "enable-prefix-caching": ("cache_config", "enable_prefix_caching"),
    "enforce-eager": ("model_config", "enforce_eager"),
    "block-size": ("cache_config", "block_size"),
    "kv-cache-dtype": ("cache_config", "cache_dtype"),
}
"""Where the configuration that ``/server_info`` tells shows what a flag has brought about."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """Which cells a server can be tested as.

    Attributes:
        cells: Those whose arm is what the server runs; a scenario of which none is proven has one as served.
        left_out: Why each of the others is left out.
        as_served: What as-served cells stand for: the id of the first cell that may be what runs, and theirs.
        matrix: The ids of ``cells``, and of those that other shards run.
    """

    cells: tuple[Cell, ...]
    left_out: Mapping[str, str]
    as_served: Mapping[str, str]
    matrix: tuple[str, ...]


async def served(connection: Connection, cells: Sequence[Cell]) -> Served:
    """Ask the server for its configuration and choose from ``cells``."""
    info = await lifecycle.server_info(connection.http, deadline_s=SERVER_INFO_DEADLINE_S)
    told_as_json = info.field("vllm_config")
    configuration = told_as_json if isinstance(told_as_json, dict) else {}
    if "cache_config" not in configuration:  # older releases tell this much in their metrics
        metrics = await read_metrics(connection.http, deadline_s=SERVER_INFO_DEADLINE_S)
        of_cache = metrics.snapshot.cache_config if metrics.snapshot else {}
        configuration = {**configuration, "cache_config": dict(of_cache)}
    return choose_served(cells, configuration)


def choose_served(cells: Sequence[Cell], configuration: Mapping[str, JsonValue]) -> Served:
    """Choose those of each scenario that are proven to be what runs, or else it as served.

    A scenario whose arms are all proven not to be what runs has no cell.
    """
    kept: list[Cell] = []
    left_out: dict[str, str] = {}
    as_served: dict[str, str] = {}
    for _, group in groupby(cells, key=lambda cell: cell.scenario.name):
        arms = [(cell, list(_doubts(cell, configuration))) for cell in group]
        proven = [cell for cell, doubts in arms if not doubts]
        possible = [cell for cell, doubts in arms if all(doubt.is_open for doubt in doubts)]
        left_out |= {cell.id: doubts[0].words for cell, doubts in arms if doubts}
        kept += proven
        if possible and not proven:
            first = possible[0]
            kept.append(first.as_served(args=_proven(first, configuration)))
            as_served[first.id] = kept[-1].id
            del left_out[first.id]
    matrix = tuple(cell.id for cell in kept)
    return Served(cells=tuple(kept), left_out=left_out, as_served=as_served, matrix=matrix)


@dataclass(frozen=True, kw_only=True)
class _Doubt:
    """Why an arm may not be what runs; ``is_open``: nobody knows, else it is not."""

    words: str
    is_open: bool


def _doubts(cell: Cell, configuration: Mapping[str, JsonValue]) -> Iterator[_Doubt]:
    for name in cell.arm.env:
        yield _Doubt(words=f"the server does not tell whether it has {name}", is_open=True)
    for flag in _flags(cell.arm.args):
        if (doubt := flag.doubt(configuration)) is not None:
            yield doubt


def _proven(cell: Cell, configuration: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Those of an arm's flags that the server proves to be its own."""
    proven = (flag.words for flag in _flags(cell.arm.args) if flag.doubt(configuration) is None)
    return tuple(word for words in proven for word in words)


@dataclass(frozen=True, kw_only=True)
class _Flag:
    """One flag of an arm, as it is written, and the value that it sets, as text."""

    name: str
    words: tuple[str, ...]
    value: str

    def doubt(self, configuration: Mapping[str, JsonValue]) -> _Doubt | None:
        """Why the server may not have it; None where it has."""
        part, key = _SHOWN_BY.get(self.name, ("", ""))
        value = told(configuration, part, key)
        if value is None:
            return _Doubt(words=f"the server does not tell whether it has --{self.name}", is_open=True)
        if str(value) != self.value:
            return _Doubt(words=f"the server says {key} is {value}", is_open=False)
        return None


def _flags(args: Sequence[str]) -> Iterator[_Flag]:
    for word, following in pairwise([*args, "--"]):
        name = flag_name(word)
        if name is None:
            continue
        _, equals, value = word.partition("=")
        words: tuple[str, ...] = (word,)
        if not equals:
            is_switch = following.startswith("--")
            value = "True" if is_switch else following
            words = (word,) if is_switch else (word, following)
        yield _Flag(name=name, words=words, value="False" if word.startswith("--no-") else value)
