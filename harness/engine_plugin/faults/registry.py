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
    ranks: int = 1
    """Over how many ranks the engine has to be spread; more take as many GPUs, where there are GPUs."""
    pictures: bool = False
    """Whether only a model that reads pictures has what it breaks."""


FAULTS: dict[str, Fault] = {}


def fault(
    name: str,
    *,
    cause: str,
    needs: tuple[str, ...] = (),
    adapters: bool = False,
    ranks: int = 1,
    pictures: bool = False,
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register the decorated function as a fault; the first line of its docstring is the summary."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        summary = (function.__doc__ or "").partition("\n")[0]
        FAULTS[name] = Fault(
            name=name,
            cause=cause,
            summary=summary,
            needs=needs if ranks == 1 else (*needs, "--tensor-parallel-size", str(ranks)),
            plant=function,
            adapters=adapters,
            ranks=ranks,
            pictures=pictures,
        )
        return function

    return register
