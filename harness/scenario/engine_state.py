"""The one model of the engine: what it is like after the steps of a script, if it does what they ask.

Follows vllm/v1/engine/core.py and vllm/v1/executor/abstract.py of 0.32: sleeping pauses first, from level 1
on it then discards memory; scheduling goes on once all memory is back; resuming starts it even while memory
is discarded.  What a call must bring about is said here and nowhere else, so that no reply can be a witness:
a wake-up that names everything asleep wakes the engine, whatever a release makes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Tag: TypeAlias = Literal["weights", "kv_cache"]
Weights: TypeAlias = Literal["own", "other"]
AdapterName: TypeAlias = Literal["first", "second"]

ALL_TAGS: frozenset[Tag] = frozenset({"weights", "kv_cache"})

_DISCARDS_WEIGHTS = 2
"""The level of sleep that throws the weights away."""

_GAUGE_OF_LEVEL: Mapping[int, str] = {0: "paused", 1: "weights_offloaded", 2: "discard_all"}


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """Awake, with the model's own weights and no adapter, unless told otherwise."""

    paused: bool = False
    asleep: frozenset[Tag] = frozenset()
    levels: frozenset[int] = frozenset()
    """At which levels it was put to sleep since it was last woken whole."""
    weights: Weights = "own"
    """Which were loaded last."""
    weights_lost: bool = False
    """Whether they were thrown away since."""
    updating: bool = False
    """Whether an update has begun and not ended: there are no weights then that it could use."""
    arrived: Weights | None = None
    """Which weights have arrived in the update."""
    weight_version: str | None = None
    """What the last update called its weights; None where none has called them anything."""
    adapters: Mapping[str, AdapterName] = field(default_factory=dict)
    """Which adapter is loaded under a name."""

    @property
    def rests(self) -> bool:
        """Whether it will not begin with a request now."""
        return self.paused or bool(self.asleep) or self.updating

    @property
    def is_sleeping(self) -> bool | None:
        """What ``/is_sleeping`` must say; None where it is only paused: releases do not agree on that."""
        return None if self.paused and not self.asleep else bool(self.asleep)

    @property
    def gauges(self) -> frozenset[str]:
        """What ``vllm:engine_sleep_state`` may show.

        Nothing is expected where only a part is asleep: releases do not agree on that.
        """
        if self.asleep == ALL_TAGS:
            return frozenset(_GAUGE_OF_LEVEL[level] for level in self.levels)
        if self.asleep:
            return frozenset()
        # After level 0 only waking sets it again, and /resume does not.
        return frozenset({"awake", "paused"} if 0 in self.levels else {"awake"})

    def after_sleep(self, level: int) -> EngineState:
        """Sleep twice, and the second one discards nothing more; the gauge shows its level all the same."""
        discards = level > 0 and "weights" not in self.asleep
        return replace(
            self,
            paused=True,
            asleep=ALL_TAGS if discards else self.asleep,
            levels=self.levels | {level},
            weights_lost=self.weights_lost or (discards and level == _DISCARDS_WEIGHTS),
        )

    def after_wake_up(self, tags: Collection[str]) -> EngineState:
        """Wake what is named, or everything where nothing is; scheduling goes on once nothing sleeps."""
        asleep = self.asleep - set(tags) if tags else frozenset[Tag]()
        if asleep:
            return replace(self, asleep=asleep)
        return replace(self, paused=False, asleep=asleep, levels=frozenset())

    def after_release_of_kv_cache(self) -> EngineState:
        """The gauge shows it like level 0."""
        return replace(self, asleep=self.asleep | {"kv_cache"}, levels=self.levels | {0})

    def after_reload(self, weights: Weights) -> EngineState:
        """These weights are there again."""
        return replace(self, weights=weights, weights_lost=False)

    def after_update_began(self) -> EngineState:
        """Nothing has arrived yet."""
        return replace(self, updating=True, arrived=None)

    def after_arrival(self, weights: Weights) -> EngineState:
        """These are on their way."""
        return replace(self, arrived=weights)

    def after_update_ended(self, version: str | None) -> EngineState:
        """What has arrived is loaded; where nothing has, everything is as before."""
        return replace(
            self,
            updating=False,
            arrived=None,
            weights=self.arrived or self.weights,
            weights_lost=self.weights_lost and self.arrived is None,
            weight_version=version or self.weight_version,
        )

    def after_load(self, name: str, adapter: AdapterName) -> EngineState:
        """An adapter is loaded, in the place of any other of this name."""
        return replace(self, adapters={**self.adapters, name: adapter})

    def after_unload(self, name: str) -> EngineState:
        """No adapter has this name any more."""
        return replace(self, adapters={key: value for key, value in self.adapters.items() if key != name})
