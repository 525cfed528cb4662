"""Steps of a sequence on one line."""

from __future__ import annotations

from pydantic import JsonValue

from harness.drive.script import PlacedStep
from harness.scenario.script import Step
from harness.scenario.steps.concurrently import Concurrently


def words(step: Step) -> str:
    """A step on one line, with the options that say something: ``sleep level=1 mode=keep``."""
    if isinstance(step, Concurrently):
        return " beside ".join(words(member) for member in step.concurrently)
    placed = PlacedStep(path="", cycle=0, step=step)
    said = type(step).model_fields[placed.action].annotation
    default = said.model_construct() if said else None
    options = {
        name: value
        for name, value in placed.options.items()
        if name not in {"within", "evidence"}
        and value not in (None, [], {})
        and (name in {"level", "name"} or value != getattr(default, name, None))
    }
    behind = {name: options.pop(name) for name in ("abandon", "begins") if name in options}
    told = (f"{name}={_value(value)}" for name, value in (*options.items(), *behind.items()))
    return " ".join([placed.action, *told])


def _value(value: JsonValue) -> str:
    if isinstance(value, dict):
        return next(
            f"{name}:{value[name]}"
            for name in ("while_pending", "after_first_token", "after")
            if value.get(name) is not None
        )
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
