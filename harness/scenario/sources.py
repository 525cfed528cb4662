"""Which values of a scenario its file gives, and which are defaults."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from harness.scenario.schema import Scenario

SCENARIO = "scenario"
DEFAULT = "default"


def key_sources(scenario: Scenario) -> dict[str, str]:
    """Say for every key of ``scenario``, ``sampling.seed`` for example, where its value came from.

    What is inside arms and steps belongs to the scenario as a whole and is not taken apart.
    """
    return dict(_sources(scenario, "", given=True))


def _sources(model: BaseModel, prefix: str, *, given: bool) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        here = given and name in model.model_fields_set
        if isinstance(value, BaseModel):
            yield from _sources(value, f"{prefix}{name}.", given=here)
        else:
            yield f"{prefix}{name}", SCENARIO if here else DEFAULT
