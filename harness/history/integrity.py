"""Digests that show whether what was recorded has been changed since.

Every line of a history ends with a digest of itself and of the digest of the line before: to change, drop,
double or exchange a line breaks the chain from there on.  ``run.json`` carries a digest of its own content,
and of each cell that has ended the digest its history ended with, so that a history cannot lose its end or be
another's.  That is no signature: it shows damage and careless editing, not forgery.

Runs that were recorded before there were digests have none; that they are whole cannot be known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from pydantic import JsonValue

from harness.history.files import open_ordinary

_DIGEST_BYTES = 8
_SEAL = re.compile(rb',"digest":"([0-9a-f]{%d})"\}\n' % (2 * _DIGEST_BYTES))
_SEAL_LENGTH = len(b',"digest":""}\n') + 2 * _DIGEST_BYTES

DIGEST = "digest"
"""The key in ``run.json``."""


def sealed(line: bytes, *, before: str) -> tuple[bytes, str]:
    """Return ``line``, a JSON object without its end of line, with its digest and a line end; and the digest.

    ``before`` is the digest of the line before; of the first one an empty text.
    """
    digest = _chained(line, before=before)
    return line[:-1] + f',"digest":"{digest}"}}\n'.encode(), digest


def opened(line: bytes) -> tuple[bytes, str | None]:
    """Return a stored line as it was before it was sealed, and its digest; None where it has none."""
    seal = _SEAL.fullmatch(line[-_SEAL_LENGTH:])
    if seal is None:
        return line, None
    return line[:-_SEAL_LENGTH] + b"}", seal[1].decode()


def continues(line: bytes, digest: str | None, *, before: str | None) -> bool:
    """Whether an opened line is the one that was written after the one whose digest is ``before``.

    Of a history without digests each line is, as far as anybody knows: ``before`` is None there.
    """
    return digest is None if before is None else digest == _chained(line, before=before)


def _chained(line: bytes, *, before: str) -> str:
    return blake2b(before.encode() + line, digest_size=_DIGEST_BYTES).hexdigest()


def tip(history: Path) -> str | None:
    """The digest of the last line of a history; None where it has none or is cut off there.

    Raises:
        OSError: it cannot be read.
    """
    with open_ordinary(history) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _SEAL_LENGTH))
        return opened(file.read())[1]


def resealed(history: str) -> tuple[str, str | None]:
    """Return a history that was changed on purpose with new digests, and the last; one without stays so.

    A last line that was cut off stays, too.
    """
    lines = [opened(line) for line in history.encode().splitlines(keepends=True)]
    if not lines or lines[0][1] is None:
        return history, None
    anew, digest = b"", ""
    for line, was in lines:
        whole, digest = (line, digest) if was is None else sealed(line, before=digest)
        anew += whole
    return anew.decode(), digest


def is_sealed(history: Path) -> bool:
    """Whether a history carries digests; those that older versions wrote do not.

    Raises:
        OSError: it cannot be read.
    """
    with open_ordinary(history) as file:
        return opened(file.readline())[1] is not None


def digest_of(content: Mapping[str, JsonValue]) -> str:
    """The digest of a JSON object, whatever the order of its keys and apart from its digest."""
    rest = {key: value for key, value in content.items() if key != DIGEST}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
