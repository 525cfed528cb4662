"""The part of a Markdown file that a command writes."""

from __future__ import annotations

BEGIN, END = "<!-- power: begin -->", "<!-- power: end -->"


def replace_marked(text: str, content: str) -> str:
    """Return ``text`` with ``content`` between the two markers, whatever was there before.

    Raises:
        ValueError: the markers are not there once each, in their order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{BEGIN} and {END} must be there once each, in this order")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = f"\n{content.strip()}\n" if content.strip() else "\n"
    return f"{before}{BEGIN}{body}{END}{after}"
