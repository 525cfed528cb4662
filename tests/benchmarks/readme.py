"""The parts of a Markdown file that commands write."""

from __future__ import annotations

BEGIN, END = "<!-- power: begin -->", "<!-- power: end -->"


def replace_marked(text: str, content: str, *, begin: str = BEGIN, end: str = END) -> str:
    """Return ``text`` with ``content`` between the two markers, whatever was there before.

    Raises:
        ValueError: the markers are not there once each, in their order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{begin} and {end} must be there once each, in this order")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    body = f"\n{content.strip()}\n" if content.strip() else "\n"
    return f"{before}{begin}{body}{end}{after}"
