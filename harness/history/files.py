"""How what may be read meanwhile is written, and how what a stranger may have made is opened."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import JsonValue

from harness.errors import StorageError


def open_ordinary(path: Path) -> BinaryIO:
    """Open a file of a run, which a stranger may have made: a pipe would be waited for, a device has no end.

    Raises:
        OSError: it cannot be opened, or is no ordinary file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return os.fdopen(handle, "rb")


def read_ordinary(path: Path) -> bytes:
    """The content of such a file.

    Raises:
        OSError: it cannot be read, or is no ordinary file.
    """
    with open_ordinary(path) as file:
        return file.read()


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
