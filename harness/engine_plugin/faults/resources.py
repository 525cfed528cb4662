"""Cause classes: memory and speed.  Every answer is right."""

from __future__ import annotations

import time
from typing import Any

from harness.engine_plugin.faults.hooks import (
    Worker,
    Wrapper,
    after_wake,
    counted_wakes,
    on_wake,
    on_worker_start,
    wrap,
)
from harness.engine_plugin.faults.registry import fault

LEAK = 64 << 20  # bytes a cycle
DELAY_S = 0.2  # a step
READING_S = 0.3  # a step that begins to read prompts
WAKING_S = 0.7  # a wake-up, times how many there have been


@fault("keep-memory", cause="memory")
def keep_memory() -> None:
    """Sleeping gives back the KV cache but not the weights (vllm#32714)."""

    def start(worker: Worker) -> None:
        def sleep(_original: Wrapper, level: int = 1) -> None:
            if level:
                worker.discard(("kv_cache",))

        wrap(worker, "sleep", sleep)

    on_worker_start(start)


@fault("leak-memory", cause="memory")
def leak_memory() -> None:
    """Each cycle leaves 64 MiB behind."""
    leaked: list[bytearray] = []
    after_wake("weights", lambda _worker: leaked.append(bytearray(b"\1") * LEAK))


@fault("slow-steps", cause="speed")
def slow_steps() -> None:
    """Each step of the model takes 0.2 s longer after waking up."""

    def start(worker: Worker) -> None:
        wakes = counted_wakes(worker)

        def execute_model(original: Wrapper, *arguments: Any, **options: Any) -> Any:
            if wakes():
                time.sleep(DELAY_S)
            return original(*arguments, **options)

        wrap(worker, "execute_model", execute_model)

    on_worker_start(start)


@fault("slow-prefill", cause="speed")
def slow_prefill() -> None:
    """Each step that begins to read prompts takes 0.3 s longer after waking up."""

    def start(worker: Worker) -> None:
        wakes = counted_wakes(worker)

        def execute_model(original: Wrapper, scheduled: Any, *arguments: Any, **options: Any) -> Any:
            if wakes() and scheduled.scheduled_new_reqs:
                time.sleep(READING_S)
            return original(scheduled, *arguments, **options)

        wrap(worker, "execute_model", execute_model)

    on_worker_start(start)


@fault("slow-wake-ups", cause="speed")
def slow_wake_ups() -> None:
    """Each wake-up takes 0.7 s longer than the one before."""

    def start(worker: Worker) -> None:
        wakes = counted_wakes(worker)
        on_wake(worker, "weights", lambda: time.sleep(WAKING_S * wakes()))

    on_worker_start(start)
