"""The table of rooms in ``docs/architecture.md``: every room has its row, and imports run downwards only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "harness"

_ROW = re.compile(r"^\| `harness/(\w+)(?:/|\.py)`[^|]*\|[^|]*\| ([^|]+) \|$", re.MULTILINE)

MAY_IMPORT = dict(_ROW.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
"""What each room may import, in the table's words; from the top down."""
ROOMS = list(MAY_IMPORT)


def test_every_room_has_its_row() -> None:
    """No folder and no module of ``harness/`` is missing, and no row is left of one that is gone."""
    found = {path.stem for path in HARNESS.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))}
    assert found - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_down_the_table_only(room: str) -> None:
    """A room imports what its row names, and nothing that stands above it."""
    below = set(ROOMS[ROOMS.index(room) + 1 :])
    named = set(re.findall(r"`(\w+)`", MAY_IMPORT[room]))
    assert named <= below
    imported = set(_imports(room)) - {room}
    assert imported <= (below if MAY_IMPORT[room] == "everything below" else named)


def _imports(room: str) -> Iterator[str]:
    """The rooms that ``room`` imports, wherever in its modules the import stands."""
    folder = HARNESS / room
    for path in folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for name in (f"{module}.{name}" if module else name for name in names):
                package, _, inside = name.partition(".")
                if package == "harness" and inside.partition(".")[0] in ROOMS:
                    yield inside.partition(".")[0]
