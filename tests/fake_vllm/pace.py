"""How long the fake takes: no time by default, or as long as an engine on a machine of changing speed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Set as AbstractSet
from random import Random

from tests.fake_vllm.behaviours import Fault

SLOW_STEP_S = 0.2
SLOW_READING_S = 0.3
SLOW_WAKING_S = 0.7
"""What the faults of a real engine take."""

_STEP_S, _READING_S, _READING_A_TOKEN_S, _WAKING_S, _SLEEPING_S = 0.03, 0.15, 1e-4, 0.6, 1.0
_FIRST_READING = 4.0
"""By what factor the first prompt is read more slowly than any other: kernels are compiled."""
_AFTER_WAKE = 1.15
"""And the first one after a wake-up: memory comes back page by page."""
_SWING = 1 / 6
"""The machine's speed goes up and down by so much: its slowest takes 1.4 times as long as its fastest."""
_NOISE = 0.08
"""Standard deviation of single steps."""


class Pace:
    """Seconds that things take, on the clock of the loop."""

    def __init__(self, faults: AbstractSet[Fault]) -> None:
        self.faults = faults
        self.wakes = 0
        """How often memory has been woken up."""
        self._random: Random | None = None
        self._period = self._phase = 1.0
        self._factor = _FIRST_READING

    def vary(self, seed: int) -> None:
        """From now on take time, as on a machine whose speed changes within minutes; ``seed`` says how."""
        self._random = Random(seed)  # noqa: S311 - no secret
        self._period = self._random.uniform(60, 240)
        self._phase = self._random.uniform(0, 2 * math.pi)

    def step(self, *, reading: int) -> float:
        """A step that reads so many tokens of prompts and gives every request one."""
        seconds = self._on_this_machine(_STEP_S)
        if reading:
            seconds += self._on_this_machine(self._factor * (_READING_S + _READING_A_TOKEN_S * reading))
            self._factor = 1.0
        if self.wakes and Fault.SLOW_STEPS in self.faults:
            seconds += SLOW_STEP_S
        if self.wakes and reading and Fault.SLOW_PREFILL in self.faults:
            seconds += SLOW_READING_S
        return seconds

    def falling_asleep(self) -> float:
        """A sleep that discards memory."""
        return self._on_this_machine(_SLEEPING_S)

    def waking_up(self) -> float:
        """A wake-up that brings memory back; it counts."""
        self.wakes += 1
        self._factor = max(self._factor, _AFTER_WAKE)
        slow = SLOW_WAKING_S * self.wakes if Fault.SLOW_WAKE_UPS in self.faults else 0.0
        return self._on_this_machine(_WAKING_S) + slow

    def _on_this_machine(self, seconds: float) -> float:
        if self._random is None:
            return 0.0
        swing = _SWING * math.sin(
            2 * math.pi * asyncio.get_running_loop().time() / self._period + self._phase
        )
        return seconds * (1 + swing) * math.exp(self._random.gauss(0, _NOISE))
