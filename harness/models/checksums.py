"""Checksums over the files of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

SAMPLE_BYTES = 1 << 20


def files_in(folder: Path) -> dict[str, Path]:
    """Every file below ``folder``, by its relative name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def full_checksums(folder: Path) -> dict[str, str]:
    """Each file's SHA-256 in hexadecimal, by relative name."""
    return {name: full_checksum(path) for name, path in files_in(folder).items()}


def full_checksum(path: Path) -> str:
    """The SHA-256 of the whole file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_checksums(folder: Path) -> dict[str, str]:
    """Each file's :func:`sampled_checksum`, by relative name: tells models apart quickly at any size."""
    return {name: sampled_checksum(path) for name, path in files_in(folder).items()}


def sampled_checksum(path: Path) -> str:
    """The file's size, and the SHA-256 of its first and last MiB."""
    size = path.stat().st_size
    with path.open("rb") as file:
        sample = hashlib.sha256(file.read(SAMPLE_BYTES))
        file.seek(max(file.tell(), size - SAMPLE_BYTES))
        sample.update(file.read())
    return f"{size}:{sample.hexdigest()}"


def combined_checksum(checksums: Mapping[str, str]) -> str:
    """One SHA-256 for a whole folder, from those of its files; their order does not matter."""
    lines = "".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums))
    return hashlib.sha256(lines.encode()).hexdigest()
