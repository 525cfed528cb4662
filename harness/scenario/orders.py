"""What overlapping calls may leave behind: whatever some order of them explains.

An engine whose calls overlap is a concurrent object, and what must hold of it is linearizability: every call
takes effect at one moment between its being made and its being answered, whole or, where it is refused, not
at all.  A call whose answer nobody heard may have taken effect at any moment since, or never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from harness.scenario.engine_state import EngineState
from harness.scenario.steps.base import BaseStep


class Fate(Enum):
    """What is known to have become of a call."""

    DONE = auto()
    """It was answered with 200, so it must have taken effect."""
    REFUSED = auto()
    """It was refused, so it must have changed nothing."""
    OPEN = auto()
    """Nobody heard its answer."""
    UNTOLD = auto()
    """It has not been made yet."""


@dataclass(frozen=True, kw_only=True)
class Overlapped:
    """A call, when it was made and answered, and what became of it."""

    step: BaseStep
    fate: Fate
    made: float = 0.0
    answered: float = float("inf")
    excused: bool = False
    """Whether the engine may have refused it, whatever the order was."""

    def precedes(self, other: Overlapped) -> bool:
        """Whether it was over before the other was made, so that no order may have it later."""
        return self.answered < other.made


def states_after(
    before: Iterable[EngineState],
    calls: Sequence[Overlapped],
    *,
    open_ones_happen: bool = False,
) -> tuple[EngineState, ...]:
    """Every state that some order of ``calls`` explains, each once; none where no order is possible.

    Args:
        before: What the engine may have been like.
        calls: Those that overlapped.  A refusal is only explained by an order in which the engine may refuse
            the call where it comes, unless it is excused.
        open_ones_happen: Leave out what would be if a call that nobody heard of had never taken effect.
    """
    found: list[EngineState] = []
    seen: list[tuple[EngineState, frozenset[int]]] = []
    ahead = [(state, frozenset(range(len(calls)))) for state in before]
    while ahead:
        state, left = ahead.pop()
        if (state, left) in seen:
            continue
        seen.append((state, left))
        is_over = not left if open_ones_happen else all(calls[number].fate is Fate.OPEN for number in left)
        if is_over and state not in found:
            found.append(state)
        for number in sorted(left, reverse=True):
            if any(calls[other].precedes(calls[number]) for other in left - {number}):
                continue
            next_states = _effects(calls[number], state)
            ahead.extend((after, left - {number}) for after in next_states)
    return tuple(found)


def _effects(call: Overlapped, engine: EngineState) -> Iterator[EngineState]:
    """What a call may make of an engine when it is its turn."""
    step, fate = call.step, call.fate
    if fate in {Fate.DONE, Fate.OPEN} or (fate is Fate.UNTOLD and not step.must_fail):
        yield step.changed(engine)
    if fate is Fate.UNTOLD and step.abandoned is not None:
        yield engine
    if fate is Fate.DONE:
        is_refused = step.must_fail  # what it did although it should not have, nobody can say
    else:
        is_refused = step.must_fail or call.excused or step.may_be_refused(engine)
    if is_refused:
        yield step.refused(engine)
