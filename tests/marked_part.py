"""The parts of a Markdown file that commands write, each between two comments that carry its name."""

from __future__ import annotations

from pathlib import Path


def with_part(text: str, name: str, content: str) -> str:
    """Return ``text`` with ``content`` as its part called ``name``, whatever was there before.

    Raises:
        ValueError: the part's two marks are not there once each, in their order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{begin} and {end} must be there once each, in this order")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    body = f"\n{content.strip()}\n" if content.strip() else "\n"
    return f"{before}{begin}{body}{end}{after}"


def write_part(path: Path, name: str, content: str) -> None:
    """Rewrite the part called ``name`` in the file at ``path``.

    Raises:
        ValueError: the file has no such part.
    """
    path.write_text(with_part(path.read_text(encoding="utf-8"), name, content), encoding="utf-8")
