"""``sleepwake.assert_clean``: a test fails with the witness as its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

CLEAN = "clean"


def assert_clean(judged: Any) -> None:
    """Return if everything that was judged is clean.

    Inconclusive is not clean: a test that could not tell has not passed.

    Args:
        judged: What a guard's check says, a run as :func:`sleepwake.run` returns it, or the result of either.

    Raises:
        AssertionError: something is not clean; says what, why, and shows the clearest changed answer.
    """
    told = [_words(each) for each in _parts(judged) if each.verdict != CLEAN]
    if told:
        raise AssertionError("\n\n".join(told))


def _parts(judged: Any) -> Iterable[Any]:
    """The verdicts in it: that of a check, or those of a run's cells."""
    result = getattr(judged, "result", judged)
    return getattr(result, "cells", (result,))


def _words(part: Any) -> str:
    return "\n".join(_lines(part))


def _lines(part: Any) -> Iterator[str]:
    name = f"{part.cell}: " if hasattr(part, "cell") else ""
    verdict = part.verdict if part.verdict is not None else "no verdict"
    cause = f" ({part.cause})" if part.cause is not None else ""
    yield f"{name}{verdict}{cause}: {getattr(part, 'error', None) or part.reason}"
    witness = part.witness
    if witness is not None:
        # A run's witness has both answers whole, a guard's their texts alone.
        before, after = (
            (witness.baseline.text, witness.after.text)
            if hasattr(witness, "baseline")
            else (witness.before, witness.after)
        )
        yield f"  prompt {witness.prompt}, differs from token {witness.first_difference} on"
        yield f"  before: {before!r}"
        yield f"  after:  {after!r}"
    if getattr(part, "directory", None) is not None:
        yield f"  recording: {part.directory}"
