"""The beginnings of steps for tests that tell histories by hand."""

from __future__ import annotations

from collections.abc import Mapping

from harness.history.observations import StepStarted


def step_started(
    *, t: float, step: str, action: str, options: Mapping[str, object], cycle: int
) -> StepStarted:
    """A step begins; its facts follow from what it is called, as in an old history."""
    told = {"t": t, "step": step, "action": action, "options": dict(options), "cycle": cycle}
    return StepStarted.model_validate(told)
