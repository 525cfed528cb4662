"""Within ``harness/check`` imports run one way: from the verdict down to the answers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import harness.check

ROOM = Path(harness.check.__file__).parent
DOWNWARDS = (
    {"handover"},
    {"verdict"},
    {"diagnosis", "crashes"},
    {"checkers"},
    {"lateness", "others"},
    {"evidence"},
    {"noise", "timing"},
    {"wording"},
    {"answer_pair", "lifecycle_calls", "result", "told_configuration"},
)
"""What stands side by side may not know each other; a folder's modules may."""


def imported(module: Path) -> Iterator[str]:
    """The parts of the room that a module imports."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness.check"):
            _, _, *inside = (node.module or "").split(".")
            yield from inside[:1] or (alias.name for alias in node.names)


def test_imports_run_downwards() -> None:
    """So each part can be read, tested and changed without those above it."""
    level = {name: number for number, names in enumerate(DOWNWARDS) for name in names}
    for module in ROOM.rglob("*.py"):
        if module == ROOM / "__init__.py":
            continue
        itself = module.relative_to(ROOM).with_suffix("").parts[0]
        for name in imported(module):
            assert name == itself or level[itself] < level[name], f"{module.name} imports {name}"
