"""Cause class: lost weights."""

from __future__ import annotations

from typing import Any

from harness.engine_plugin import compat
from harness.engine_plugin.faults.hooks import Wrapper, on_worker_start, wrap
from harness.engine_plugin.faults.registry import fault


@fault("lose-weights", cause="lost weights")
def lose_weights() -> None:
    """Weights do not come back: neither when a level-1 sleep ends nor by the reload after a level-2 sleep.

    Of a level-2 recovery the first ``reload_weights`` is lost without an error.  Any other one heals the
    engine, also after a level-1 sleep.
    """

    def start(worker: Any) -> None:
        slept_at = 0
        reload_is_lost = False

        def sleep(original: Wrapper, level: int = 1) -> None:
            nonlocal slept_at
            original(level)
            slept_at = level

        def wake_up(original: Wrapper, tags: list[str] | None = None) -> None:
            nonlocal slept_at, reload_is_lost
            original(tags)
            if slept_at and (tags is None or "weights" in tags):
                zero_parameters(worker)
                reload_is_lost = slept_at == 2  # noqa: PLR2004  (the level)
                slept_at = 0

        def reload_weights(original: Wrapper, *arguments: Any, **options: Any) -> None:
            nonlocal reload_is_lost
            if not reload_is_lost:
                original(*arguments, **options)
            reload_is_lost = False

        wrap(worker, "sleep", sleep)
        wrap(worker, "wake_up", wake_up)
        wrap(worker, "reload_weights", reload_weights)

    on_worker_start(start)


def zero_parameters(worker: Any) -> None:
    """Overwrite every parameter with zeros."""
    for model in compat.models(worker.model_runner):
        for parameter in model.parameters():
            parameter.data.zero_()
