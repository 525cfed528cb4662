"""The headers of safetensors files: read and written anew without holding the tensors in memory.

Eight bytes of header length, a JSON header, and the data; see https://huggingface.co/docs/safetensors.
The library writes whole tensors only, all of a file at once, which for a large model is its whole memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

Header: TypeAlias = dict[str, Any]
"""For every tensor its ``dtype``, ``shape`` and ``data_offsets``; ``__metadata__`` beside them."""

_LENGTH_BYTES = 8
_METADATA = "__metadata__"


def read_header(path: Path) -> tuple[Header, int]:
    """Return the header, without its metadata, and the position of the data.

    Raises:
        ValueError: it is no safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 0 < length < path.stat().st_size:
            raise ValueError(f"{path} is not a safetensors file")
        header = json.loads(file.read(length))
    return {name: entry for name, entry in header.items() if name != _METADATA}, _LENGTH_BYTES + length


def copy_exchanging(source: Path, target: Path, pairs: Mapping[str, str]) -> None:
    """Copy a file so that each tensor of ``pairs`` holds what the one it is paired with held, and vice versa.

    Only the header is written anew: it says where in the data each tensor lies.
    """
    header, data = read_header(source)
    for left, right in pairs.items():
        places = header[left]["data_offsets"], header[right]["data_offsets"]
        header[right]["data_offsets"], header[left]["data_offsets"] = places
    with source.open("rb") as original, target.open("wb") as file:
        file.write(packed(header))
        original.seek(data)
        shutil.copyfileobj(original, file, 1 << 20)


def packed(header: Header) -> bytes:
    """Return a header as it stands in a file, in the order of the data: some readers insist on it."""
    ordered = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]))
    text = json.dumps({_METADATA: {"format": "pt"}, **ordered}).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # the data starts aligned
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text
