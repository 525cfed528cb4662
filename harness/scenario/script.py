"""What a script is made of: every step there is, once, and repetitions of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Annotated, ClassVar, TypeAlias, get_args

from pydantic import Discriminator, Field, GetCoreSchemaHandler, Tag, field_validator
from pydantic_core import CoreSchema

from harness.scenario.steps.asking import NullTransition, Probe
from harness.scenario.steps.base import BaseStep
from harness.scenario.steps.caches import ResetEncoderCache, ResetMmCache, ResetPrefixCache
from harness.scenario.steps.lifecycle import Pause, ReleaseKvCacheMemory, Resume, Sleep, WakeUp
from harness.scenario.steps.loading import LoadAdapter, ReloadWeights, UnloadAdapter
from harness.scenario.steps.requests import AbortRequests, CancelRequests, FinishRequests, StartRequests
from harness.scenario.steps.updating import (
    FinishWeightUpdate,
    InitWeightTransfer,
    StartWeightUpdate,
    UpdateWeights,
)

Transition: TypeAlias = (
    Sleep
    | WakeUp
    | Pause
    | Resume
    | ReleaseKvCacheMemory
    | ReloadWeights
    | InitWeightTransfer
    | StartWeightUpdate
    | UpdateWeights
    | FinishWeightUpdate
    | LoadAdapter
    | UnloadAdapter
    | ResetPrefixCache
    | ResetMmCache
    | ResetEncoderCache
    | AbortRequests
)
"""Steps that are one call to the engine."""


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
    Probe | Transition | StartRequests | FinishRequests | CancelRequests | NullTransition | Repeat
)

STEPS: dict[str, type[BaseStep]] = {model.key(): model for model in get_args(_AnyStep)}
"""Every step by the key that names it in YAML."""


class _ByKey:
    """Lets pydantic take a step for what its key says, instead of trying each."""

    def __get_pydantic_core_schema__(self, _: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        tagged = [Annotated[model, Tag(key)] for key, model in STEPS.items()]
        by_key = Discriminator(
            _key_of,
            custom_error_type="unknown_step",
            custom_error_message="not a step; the steps are " + ", ".join(STEPS),
        )
        return handler.generate_schema(Annotated[reduce(or_, tagged), by_key])


def _key_of(value: object) -> str | None:
    if isinstance(value, dict):
        return next((key for key in value if key in STEPS), None)
    return value.key() if isinstance(value, BaseStep) else None


Step: TypeAlias = Annotated[_AnyStep, _ByKey()]


def check_requests_end(steps: Iterable[Step], *, place: str) -> None:
    """Return if every request that ``steps`` start ends in them, and nothing else is said to end.

    Raises:
        ValueError: one is started twice, ends without having been started, or is left running.
    """
    running: set[str] = set()
    for step in steps:
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


Repeat.model_rebuild()
