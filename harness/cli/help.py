"""How ``--help`` reads: sentences that are not broken where the code was, and options in groups."""

from __future__ import annotations

import inspect

from cyclopts import Group

WHAT = Group("What is run", sort_key=1)
ENGINE = Group("Which engine", sort_key=2)
THEIRS = Group("A server that is already running", sort_key=3)
HOW = Group("How it is run", sort_key=4)
WHERE = Group("Where cells run", sort_key=5)
RESULT = Group("What comes of it", sort_key=6)

_SECTIONS = frozenset({"Args:", "Attributes:"})
_NAMES = 4
"""Columns by which the names in a section are indented; what is further in continues one."""


def told(documented: object) -> None:
    """Join the lines of a docstring that were broken for the code alone; the terminal breaks its own."""
    if documented.__doc__:
        documented.__doc__ = joined(documented.__doc__)


def joined(docstring: str) -> str:
    """Return ``docstring`` with every paragraph, and every option's description, on one line."""
    lines: list[str] = []
    in_section = False
    for line in inspect.cleandoc(docstring).splitlines():
        indent = len(line) - len(line.lstrip())
        in_section = line in _SECTIONS or (in_section and (not line or indent > 0))
        continues = indent > _NAMES if in_section else indent == 0
        if (
            line
            and lines
            and lines[-1]
            and lines[-1] not in _SECTIONS
            and line not in _SECTIONS
            and continues
        ):
            lines[-1] = f"{lines[-1]} {line.strip()}"
        else:
            lines.append(line)
    return "\n".join(lines)
