"""The steps that let the engine rest and go on: sleep, wake-up, pause, resume, release of the KV cache."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from harness.scenario.engine_state import EngineState
from harness.scenario.steps.base import BaseStep, CallOptions
from harness.vllm_api.versions import Feature

Mode: TypeAlias = Literal["abort", "wait", "keep"]


class SleepOptions(CallOptions):
    """Parameters of ``POST /sleep``."""

    level: Literal[0, 1, 2] = Field(
        default=1, description="0 only stops scheduling, 1 keeps the weights elsewhere, 2 throws them away"
    )
    mode: Mode | None = Field(
        default=None, description="what becomes of running requests; vLLM's own default is `abort`"
    )


class WakeOptions(CallOptions):
    """Parameters of ``POST /wake_up``; without tags everything wakes."""

    tags: tuple[Literal["weights", "kv_cache", "scheduling", "unknown"], ...] = Field(
        default=(),
        description="what wakes, in any order, `unknown` being nothing that vLLM knows; empty: everything",
    )


class PauseOptions(CallOptions):
    """Parameters of ``POST /pause``."""

    mode: Mode | None = Field(
        default=None, description="what becomes of running requests; vLLM's own default is `abort`"
    )
    clear_cache: bool | None = Field(
        default=None, description="whether the caches are forgotten; vLLM's own default is `true`"
    )


class ReleaseOptions(CallOptions):
    """Parameters of ``POST /release_kv_cache_memory``."""


class Sleep(BaseStep):
    """Put the engine to sleep."""

    sleep: SleepOptions

    takes_memory: ClassVar[bool] = False

    @property
    def features(self) -> frozenset[Feature]:
        """Levels and modes came one after the other."""
        level = {Feature.LEVEL_ZERO} if self.sleep.level == 0 else set()
        mode = {Feature.SLEEP_MODE} if self.sleep.mode is not None else set()
        return frozenset(level | mode)

    def changed(self, engine: EngineState) -> EngineState:
        """Asleep at this level."""
        return engine.after_sleep(self.sleep.level)


class WakeUp(BaseStep):
    """Wake the engine, whole or by tag."""

    wake_up: WakeOptions

    takes_memory: ClassVar[bool] = False

    @property
    def features(self) -> frozenset[Feature]:
        """Scheduling has a tag of its own since there is level 0."""
        return frozenset({Feature.LEVEL_ZERO} if "scheduling" in self.wake_up.tags else ())

    def changed(self, engine: EngineState) -> EngineState:
        """What is named is awake."""
        return engine.after_wake_up(self.wake_up.tags)


class Pause(BaseStep):
    """Stop scheduling; memory stays."""

    pause: PauseOptions

    needs_async: ClassVar[bool] = True

    @property
    def features(self) -> frozenset[Feature]:
        """Modes came later than pausing itself."""
        return frozenset({Feature.PAUSE} | ({Feature.PAUSE_MODE} if self.pause.mode is not None else set()))

    def changed(self, engine: EngineState) -> EngineState:
        """Scheduling rests, memory stays."""
        return replace(engine, paused=True)


class Resume(BaseStep):
    """Go on after a pause."""

    resume: CallOptions

    needs_async: ClassVar[bool] = True
    takes_memory: ClassVar[bool] = False
    feature: ClassVar[Feature | None] = Feature.PAUSE

    def changed(self, engine: EngineState) -> EngineState:
        """Scheduling goes on; the gauge is left as it is."""
        return replace(engine, paused=False)


class ReleaseKvCacheMemory(BaseStep):
    """Give the KV cache's memory back while paused."""

    release_kv_cache_memory: ReleaseOptions

    takes_memory: ClassVar[bool] = False
    feature: ClassVar[Feature | None] = Feature.RELEASE_KV_CACHE_MEMORY

    def may_be_refused(self, engine: EngineState) -> bool:
        """It takes a pause, and all memory in its place."""
        return not engine.paused or bool(engine.asleep)

    def changed(self, engine: EngineState) -> EngineState:
        """The cache's memory is asleep."""
        return engine.after_release_of_kv_cache()
