"""What can be seen of an engine from outside, taken before and after a cycle."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.engine_plugin.engine import PROMPTS, Answer, Engine


@dataclass(frozen=True)
class Observation:
    """What an engine shows while awake; ``asleep`` is its memory in MiB in the sleep before."""

    alone: Answer
    together: list[Answer]
    seeded: Answer
    checksums: dict[str, str]
    cached: int
    seconds: float
    awake: int
    asleep: int | None = None


def observe(engine: Engine, *, asleep: int | None = None) -> Observation:
    """Look at an awake engine."""
    start = time.monotonic()
    alone, cached = engine.ask(PROMPTS[0])
    seconds = time.monotonic() - start
    return Observation(
        alone=alone,
        together=engine.answers_at_once(),
        seeded=engine.ask(PROMPTS[1], temperature=1, seed=7, tokens=16)[0],
        checksums=engine.checksums(),
        cached=cached,
        seconds=seconds,
        awake=engine.resident(),
        asleep=asleep,
    )


def observe_cycle(engine: Engine, level: int) -> Observation:
    """Sleep at ``level``, wake up as the documentation says, and look."""
    engine.sleep(level)
    asleep = engine.resident()
    engine.recover(level)
    return observe(engine, asleep=asleep)
