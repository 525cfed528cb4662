"""A part of the torture: what it may take, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one part may take, and where it works.

    Attributes:
        seconds: After which no new trial begins.
        trials: How many at most.
        seed: Of all that is drawn.
        folder: Is empty, and gone afterwards.
        keep: Gets what was found, for whoever looks into it.
    """

    seconds: float
    trials: int
    seed: int
    folder: Path
    keep: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a part.

    Attributes:
        tried: How many trials there were.
        bad: What was wrong in each that did not end as it must.
        told: What else is worth knowing, in a few words.
    """

    tried: int
    bad: tuple[str, ...] = ()
    told: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One row of the table.

    Attributes:
        name: By which it is asked for.
        about: What is tried, and what must hold.
        run: Tries it.
        trials: How many at most, in minutes and in hours.
        seconds: How long at most, in minutes and in hours.
    """

    name: str
    about: str
    run: Callable[[Budget], Outcome]
    trials: tuple[int, int]
    seconds: tuple[float, float]
