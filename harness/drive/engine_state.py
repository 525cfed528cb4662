"""What the engine's state must be after the calls it acknowledged, and what contradicts that.

Follows vllm/v1/engine/core.py and vllm/v1/executor/abstract.py of 0.32: sleeping pauses first, from level 1
on it then discards memory; waking a tag that is not asleep does nothing; scheduling goes on once all memory
is back; resuming starts it even while memory is discarded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from harness.history.events import Observation

Tag: TypeAlias = Literal["weights", "kv_cache"]
ALL_TAGS: frozenset[Tag] = frozenset({"weights", "kv_cache"})

_GAUGE_OF_LEVEL: Mapping[int, str] = {0: "paused", 1: "weights_offloaded", 2: "discard_all"}


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """Awake unless told otherwise."""

    paused: bool = False
    asleep: frozenset[Tag] = frozenset()
    levels: frozenset[int] = frozenset()
    """At which levels it was put to sleep since it was last woken whole."""

    def after_sleep(self, level: int) -> EngineState:
        """Sleep twice, and the second one discards nothing more; the gauge shows its level all the same."""
        asleep = ALL_TAGS if level > 0 and "weights" not in self.asleep else self.asleep
        return EngineState(paused=True, asleep=asleep, levels=self.levels | {level})

    def after_wake_up(self, tags: Collection[str]) -> EngineState:
        """Wake the tags, or everything where there are none."""
        named = set(tags) - {"scheduling"}
        if not tags:
            return EngineState()
        asleep = self.asleep - named if named <= self.asleep else self.asleep
        return replace(self, asleep=asleep) if asleep else EngineState()

    def after_pause(self) -> EngineState:
        """Scheduling rests, memory stays."""
        return replace(self, paused=True)

    def after_resume(self) -> EngineState:
        """Scheduling goes on; the gauge is left as it is."""
        return replace(self, paused=False)

    def after_release_of_kv_cache(self) -> EngineState:
        """The gauge shows it like level 0."""
        return replace(self, asleep=self.asleep | {"kv_cache"}, levels=self.levels | {0})

    def contradictions(self, seen: Observation, *, sleeping_pauses: bool) -> Iterator[str]:
        """Yield in words what was seen and cannot be.

        Args:
            seen: A look at the engine when no call was under way.
            sleeping_pauses: Whether the release is one whose sleep pauses the scheduler, and whose waking
                lets it go on; before, ``/is_paused`` knew of ``/pause`` alone.
        """
        # Releases do not agree on whether an engine that is only paused counts as sleeping.
        if self.asleep or not self.paused:
            yield from _unless_equal("/is_sleeping", seen.is_sleeping, bool(self.asleep))
        if sleeping_pauses:
            yield from _unless_equal("/is_paused", seen.is_paused, self.paused)
        yield from _unless_equal("/health", seen.is_healthy, True)
        gauge = seen.sleep_state
        if gauge is not None and (expected := self._gauges()) and gauge not in expected:
            yield f"vllm:engine_sleep_state says {gauge}, expected {' or '.join(sorted(expected))}"

    def _gauges(self) -> frozenset[str]:
        """What the gauge may show; nothing where only a part is asleep: releases do not agree on that."""
        if self.asleep == ALL_TAGS:
            return frozenset(_GAUGE_OF_LEVEL[level] for level in self.levels)
        if self.asleep:
            return frozenset()
        # After level 0 only waking sets it again, and /resume does not.
        return frozenset({"awake", "paused"} if 0 in self.levels else {"awake"})


def _unless_equal(endpoint: str, seen: bool | None, expected: bool) -> Iterator[str]:  # noqa: FBT001 - two readings
    if seen is not None and seen is not expected:
        yield f"{endpoint} says {str(seen).lower()}, expected {str(expected).lower()}"
