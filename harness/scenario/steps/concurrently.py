"""The step whose calls are in flight at once."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias, get_args

from pydantic import Field, model_validator

from harness.scenario.engine_state import EngineState
from harness.scenario.orders import Fate, Overlapped, states_after
from harness.scenario.steps.base import BaseStep
from harness.scenario.steps.by_key import ByKey
from harness.scenario.steps.calls import Transition
from harness.scenario.steps.requests import CancelRequests
from harness.vllm_api.versions import Feature

_AnyMember: TypeAlias = Transition | CancelRequests

MEMBERS: dict[str, type[BaseStep]] = {model.key(): model for model in get_args(_AnyMember)}
"""What may overlap, by the key that names it in YAML."""

Member: TypeAlias = Annotated[
    _AnyMember, ByKey(lambda: MEMBERS, otherwise="not a call that can overlap others; these can:")
]

MOST_CALLS = 5
"""Every order of them is looked at."""


class Concurrently(BaseStep):
    """Make several calls that overlap, and wait for all of them."""

    concurrently: tuple[Member, ...] = Field(
        min_length=2,
        max_length=MOST_CALLS,
        description="calls that are in flight at once; each may say with `begins` when it is made",
    )

    needs_async: ClassVar[bool] = True

    @model_validator(mode="after")
    def _what_is_pending_is_there(self) -> Concurrently:
        before: list[str] = []
        for member in self.concurrently:
            named = member.begins.while_pending if member.begins else None
            if named is not None and before.count(named) != 1:
                there = ", ".join(before) or "none"
                raise ValueError(
                    f"`while_pending: {named}` must name one call that stands before it (there are: {there})"
                )
            before.append(member.key())
        return self

    @property
    def calls(self) -> tuple[Transition, ...]:
        """Those among its members that are lifecycle calls."""
        return tuple(member for member in self.concurrently if not isinstance(member, CancelRequests))

    @property
    def features(self) -> frozenset[Feature]:
        """What any of them makes use of."""
        return frozenset().union(*(member.features for member in self.concurrently))

    @property
    def leaves_a_trace(self) -> bool:
        """Nobody can say what an engine is like whose calls overlapped, but by looking."""
        return True

    def outcomes(self, engine: EngineState) -> tuple[EngineState, ...]:
        """What the engine may be like afterwards: whatever some order of the calls makes of it."""
        calls = [Overlapped(step=each, fate=Fate.UNTOLD) for each in self.calls]
        return states_after([engine], calls)

    def changed(self, engine: EngineState) -> EngineState:
        """What the first of these orders makes of it."""
        return self.outcomes(engine)[0]
