"""Text that may come from anywhere, made harmless, and numbers made readable.

Whatever a model answers can reach a report: escape sequences that repaint a terminal,
right-to-left overrides that reorder a line, characters XML forbids.  ``visible`` turns
every such character into a backslash escape that can be read; what is left is printable
in all formats, which then add their own escaping of markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from harness.check.wording import counted

_HIDDEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
"""Unicode categories that show nothing or something else: controls, bidirectional marks, surrogates, ..."""


class _Visible(dict[int, str]):
    """A translation table that is filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shown = _escape(character) if unicodedata.category(character) in _HIDDEN else character
        self[code] = shown
        return shown


def _escape(character: str) -> str:
    """As Python writes it in a string: short where it can be, and for lone surrogates as well."""
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


_ONE_LINE = _Visible()
_LINES = _Visible({ord("\n"): "\n"})


def visible(text: str) -> str:
    """Return ``text`` with every character that does not show itself written as an escape, but keep lines."""
    return text.translate(_LINES)


def one_line(text: str) -> str:
    r"""Return ``text`` as :func:`visible` does, with line breaks written as ``\n``."""
    return text.translate(_ONE_LINE)


def shorten(text: str, *, limit: int) -> str:
    """Return the beginning of ``text`` in at most ``limit`` characters, and say how many more there are."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text) - limit} more characters)"


def end_of(text: str, *, limit: int) -> str:
    """Return the last ``limit`` characters of ``text``, with dots before them when something is left out."""
    return text if len(text) <= limit else f"... {text[-limit:]}"


def percent(share: float) -> str:
    """Write a share of one as a percentage that is never rounded to certainty: ``99.6%``, ``>99.9%``."""
    if share in {0.0, 1.0}:
        return f"{share:.0%}"
    if share < 0.001:  # noqa: PLR2004 - the smallest share one decimal can show
        return "<0.1%"
    if share > 0.999:  # noqa: PLR2004 - the largest
        return ">99.9%"
    return f"{share:.1%}"


def mebibytes(size: int | None) -> str:
    """Write a number of bytes in MiB; ``-`` where it was not measured."""
    return "-" if size is None else f"{size / 2**20:,.0f} MiB"


def seconds(duration: float) -> str:
    """Write a duration: ``0.04 s``, ``12.3 s``, ``4 min 10 s``."""
    if duration < 10:  # noqa: PLR2004 - two decimals matter below, one above
        return f"{duration:.2f} s"
    if duration < 120:  # noqa: PLR2004 - minutes are easier from here on
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest} s"


count = counted
"""Write a number with its noun: ``1 cell``, ``4 cells``."""


def pairs(mapping: Mapping[str, object]) -> str:
    """Write a small mapping on one line: ``level 1, mode keep``."""
    return ", ".join(f"{one_line(str(key))} {one_line(_short(value))}" for key, value in mapping.items())


def _short(value: object) -> str:
    if isinstance(value, list):
        return "+".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
