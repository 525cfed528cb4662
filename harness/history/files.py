"""Replacing a file: the one way in which anything that may be read meanwhile is written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from harness.errors import StorageError


def replace_file(path: Path, text: str, *, remedy: str = "free disk space") -> Path:
    """Replace ``path`` in one step, so that no reader ever sees half of it; return ``path``.

    Raises:
        StorageError: it cannot be written; what stood there still does.
    """
    temporary: str | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror}", remedy=remedy) from error
    return path


def replace_json(path: Path, content: Mapping[str, JsonValue]) -> Path:
    """The same with ``content`` as JSON that people read too.

    Raises:
        StorageError: it cannot be written; what stood there still does.
    """
    return replace_file(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
