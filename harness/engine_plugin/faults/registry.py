"""The faults by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """Damage to plant on purpose, so that a checker can show that it sees it."""

    name: str
    cause: str
    """The root-cause class that a report should name, in the report's words."""
    summary: str
    """What goes wrong, in one line."""
    needs: tuple[str, ...]
    """vLLM flags without which the fault has nothing to break."""
    plant: Callable[[], None]
    """Called once in every vLLM process at its start; may patch what it likes."""
    adapters: bool = False
    """Whether it breaks adapters that a script loads, and nothing else."""
    pictures: bool = False
    """Whether only a model that reads pictures has what it breaks."""


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, cause: str, needs: tuple[str, ...] = (), adapters: bool = False, pictures: bool = False
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register the decorated function as a fault; the first line of its docstring is the summary."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        summary = (function.__doc__ or "").partition("\n")[0]
        FAULTS[name] = Fault(
            name=name,
            cause=cause,
            summary=summary,
            needs=needs,
            plant=function,
            adapters=adapters,
            pictures=pictures,
        )
        return function

    return register
