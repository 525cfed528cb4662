"""What a script is made of: every step there is, once, and repetitions of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, TypeAlias, get_args

from pydantic import Field, field_validator

from harness.scenario.steps.asking import NullTransition, Probe
from harness.scenario.steps.base import BaseStep
from harness.scenario.steps.by_key import ByKey
from harness.scenario.steps.calls import Transition
from harness.scenario.steps.concurrently import Concurrently
from harness.scenario.steps.requests import CancelRequests, FinishRequests, StartRequests


class Repeat(BaseStep):
    """Run the inner steps several times; each time is a cycle."""

    repeat: int = Field(ge=1, le=1000, description="how many times")
    steps: tuple[Step, ...] = Field(min_length=1, description="what is repeated; not another `repeat`")

    changes_engine: ClassVar[bool] = False

    @field_validator("steps")
    @classmethod
    def _not_nested(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        if any(isinstance(step, Repeat) for step in value):
            raise ValueError("repeat cannot stand inside repeat")
        check_requests_end(value, place="repeat")
        return value


_AnyStep: TypeAlias = (
    Probe
    | Transition
    | Concurrently
    | StartRequests
    | FinishRequests
    | CancelRequests
    | NullTransition
    | Repeat
)

STEPS: dict[str, type[BaseStep]] = {model.key(): model for model in get_args(_AnyStep)}
"""Every step by the key that names it in YAML."""


Step: TypeAlias = Annotated[_AnyStep, ByKey(lambda: STEPS, otherwise="not a step; the steps are")]


def check_requests_end(steps: Iterable[Step], *, place: str) -> None:
    """Return if every request that ``steps`` start ends in them, and nothing else is said to end.

    Raises:
        ValueError: one is started twice, ends without having been started, or is left running.
    """
    running: set[str] = set()
    for step in each_by_itself(steps):
        match step:
            case StartRequests(start_requests=options):
                if options.name in running:
                    raise ValueError(f"requests {options.name!r} are started while they still run")
                running.add(options.name)
            case FinishRequests(finish_requests=options) | CancelRequests(cancel_requests=options):
                if options.name not in running:
                    raise ValueError(f"no requests {options.name!r} run here: start them before")
                running.remove(options.name)
            case NullTransition() if running:
                raise ValueError("a null transition must change nothing: finish the requests before it")
    if running:
        names = ", ".join(sorted(running))
        raise ValueError(f"requests are left running at the end of the {place}: finish or cancel {names}")


def flat_steps(script: tuple[Step, ...]) -> Iterator[Step]:
    """Every step of ``script`` once, in order, those inside ``repeat`` included."""
    for step in script:
        if isinstance(step, Repeat):
            yield from step.steps
        else:
            yield step


def each_by_itself(steps: Iterable[Step]) -> Iterator[Step]:
    """Every one of ``steps``, and instead of those that overlap each of these."""
    for step in steps:
        if isinstance(step, Concurrently):
            yield from step.concurrently
        else:
            yield step


Repeat.model_rebuild()
