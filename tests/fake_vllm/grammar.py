"""What an answer that has to keep to a regular expression may still become (vllm/v1/structured_output)."""

from __future__ import annotations

from functools import cache
from typing import Any

import regex  # type: ignore[import-untyped]  # it ships no types


@cache
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)


def may_begin(pattern: str, text: str) -> bool:
    """Whether something that is allowed begins with ``text``, or is it."""
    return _compiled(pattern).fullmatch(text, partial=True) is not None


def is_whole(pattern: str, text: str) -> bool:
    """Whether ``text`` is allowed."""
    return _compiled(pattern).fullmatch(text) is not None
