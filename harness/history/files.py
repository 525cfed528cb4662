"""Replacing a file: the one way in which anything that may be read meanwhile is written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from harness.errors import StorageError


@contextmanager
def storing(path: Path, *, cannot: str = "be written", remedy: str = "free disk space") -> Iterator[None]:
    """Turn what the system has against something that is done to ``path`` into our error."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot {cannot}: {error.strerror}", remedy=remedy) from error


def replace_file(path: Path, text: str, *, remedy: str = "free disk space") -> Path:
    """Replace ``path`` in one step, so that no reader ever sees half of it; return ``path``.

    Raises:
        StorageError: it cannot be written; what stood there still does.
    """
    with storing(path, remedy=remedy):
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.chmod(0o644)
            return temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def replace_json(path: Path, content: Mapping[str, JsonValue]) -> Path:
    """The same with ``content`` as JSON that people read too."""
    return replace_file(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
