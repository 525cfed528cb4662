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
        cells: Those whose arm is what the server runs.
        left_out: Why each of the others is left out.
        not_proven: Of ``cells``: those of whose arm the server does not tell all, and what it does not tell.
    """

    cells: tuple[Cell, ...]
    left_out: Mapping[str, str]
    not_proven: Mapping[str, str]


async def served(connection: Connection, cells: Sequence[Cell]) -> Served:
    """Ask the server for its configuration and choose from ``cells``."""
    info = await lifecycle.server_info(connection.http, deadline_s=SERVER_INFO_DEADLINE_S)
    configuration = info.field("vllm_config")
    return choose_served(cells, configuration if isinstance(configuration, dict) else {})


def choose_served(cells: Sequence[Cell], configuration: Mapping[str, JsonValue]) -> Served:
    """Choose those of each scenario that are proven to be what runs, or else the first that may be."""
    kept: list[Cell] = []
    left_out: dict[str, str] = {}
    not_proven: dict[str, str] = {}
    for _, group in groupby(cells, key=lambda cell: cell.scenario.name):
        arms = {cell.id: (cell, list(_doubts(cell, configuration))) for cell in group}
        possible = [cell for cell, doubts in arms.values() if all(doubt.is_open for doubt in doubts)]
        proven = [cell for cell in possible if not arms[cell.id][1]]
        chosen = proven or possible[:1]
        kept += chosen
        for name, (cell, doubts) in arms.items():
            if doubts:
                (not_proven if cell in chosen else left_out)[name] = doubts[0].words
    return Served(cells=tuple(kept), left_out=left_out, not_proven=not_proven)


@dataclass(frozen=True, kw_only=True)
class _Doubt:
    """Why an arm may not be what runs; ``is_open``: nobody knows, else it is not."""

    words: str
    is_open: bool


def _doubts(cell: Cell, configuration: Mapping[str, JsonValue]) -> Iterator[_Doubt]:
    for name in cell.arm.env:
        yield _Doubt(words=f"the server does not tell whether it has {name}", is_open=True)
    for flag, wanted in _wanted(cell.arm.args):
        part, key = _SHOWN_BY.get(flag, ("", ""))
        value = told(configuration, part, key)
        if value is None:
            yield _Doubt(words=f"the server does not tell whether it has --{flag}", is_open=True)
        elif str(value) != wanted:
            yield _Doubt(words=f"the server says {key} is {value}", is_open=False)


def _wanted(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each flag of an arm with the value that it sets, as text."""
    words = [*args, "--"]
    for word, following in pairwise(words):
        flag = flag_name(word)
        if flag is None:
            continue
        _, equals, value = word.partition("=")
        if not equals:
            value = "True" if following.startswith("--") else following
        yield flag, "False" if word.startswith("--no-") else value
