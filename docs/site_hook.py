"""Lays the pages of this repository out for MkDocs as they lie here: their links work in both places."""

# ruff: noqa: INP001 - MkDocs loads it by its path
from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "reports/README.md", "tests/README.md")
_FOLDERS = {
    "docs": shutil.ignore_patterns("*.py", "requirements.txt"),
    "examples": shutil.ignore_patterns("__*"),
    "scenarios": shutil.ignore_patterns("__*"),
}


def on_config(config: Any) -> Any:
    """Build from a copy that has the layout of the repository."""
    staged = Path(tempfile.mkdtemp(prefix="sleepwake-docs-"))
    for name in _PAGES:
        (staged / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, staged / name)
    for name, ignored in _FOLDERS.items():
        shutil.copytree(ROOT / name, staged / name, ignore=ignored)
    config["docs_dir"] = str(staged)
    return config


def on_post_build(config: Any) -> None:
    """Remove the copy."""
    shutil.rmtree(config["docs_dir"])
