"""The steps that load into the running engine: weights and LoRA adapters."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from harness.scenario.engine_state import AdapterName, EngineState
from harness.scenario.steps.base import BaseStep, CallOptions, Name
from harness.vllm_api.versions import Feature


class ReloadOptions(CallOptions):
    """Which weights ``reload_weights`` loads."""

    weights: Literal["own", "other", "missing"] = Field(
        default="own",
        description="the model's own, those of a variant that answers otherwise, or a path without any",
    )

    @model_validator(mode="after")
    def _missing_ones_cannot_be_loaded(self) -> ReloadOptions:
        if self.weights == "missing" and not self.must_fail:
            raise ValueError("missing weights cannot be loaded: add `must_fail: true`")
        return self


class LoadAdapterOptions(CallOptions):
    """Parameters of ``POST /v1/load_lora_adapter``."""

    name: Name = Field(description="requests name it so")
    adapter: AdapterName = Field(description="which of the two adapters made for the model")
    in_place: bool = Field(default=False, description="takes the place of the one loaded under this name")
    same_path: bool = Field(
        default=False,
        description="exchanges the files at one path of the name; otherwise every adapter has its own",
    )


class UnloadAdapterOptions(CallOptions):
    """Parameters of ``POST /v1/unload_lora_adapter``."""

    name: Name = Field(description="the name it was loaded under")


class ReloadWeights(BaseStep):
    """Load weights into the running engine."""

    reload_weights: ReloadOptions

    takes_memory: ClassVar[bool] = False

    @property
    def features(self) -> frozenset[Feature]:
        """Reloading goes through any worker's method; naming a path came later."""
        path = {Feature.RELOAD_FROM_PATH} if self.reload_weights.weights != "own" else set()
        return frozenset({Feature.COLLECTIVE_RPC} | path)

    @property
    def leaves_a_trace(self) -> bool:
        """Its own weights are what an engine has anyway."""
        return self.reload_weights != ReloadOptions()

    def may_be_refused(self, engine: EngineState) -> bool:
        """There may be nowhere to load them to."""
        return "weights" in engine.asleep or engine.updating

    def changed(self, engine: EngineState) -> EngineState:
        """These weights are loaded."""
        weights = self.reload_weights.weights
        return engine if weights == "missing" else engine.after_reload(weights)


class LoadAdapter(BaseStep):
    """Load a LoRA adapter, or put another in its place."""

    load_adapter: LoadAdapterOptions

    @property
    def features(self) -> frozenset[Feature]:
        """Exchanging one that is loaded came later."""
        return frozenset({Feature.LOAD_ADAPTER_IN_PLACE} if self.load_adapter.in_place else ())

    @property
    def only_adapter(self) -> str:
        """The base model and other adapters answer as before."""
        return self.load_adapter.name

    @property
    def leaves_a_trace(self) -> bool:
        """It stays loaded."""
        return True

    def may_be_refused(self, engine: EngineState) -> bool:
        """The name is taken, or there may be nowhere to load it to."""
        options = self.load_adapter
        return (options.name in engine.adapters and not options.in_place) or "weights" in engine.asleep

    def changed(self, engine: EngineState) -> EngineState:
        """Its name means this adapter."""
        return engine.after_load(self.load_adapter.name, self.load_adapter.adapter)


class UnloadAdapter(BaseStep):
    """Unload a LoRA adapter."""

    unload_adapter: UnloadAdapterOptions

    @property
    def only_adapter(self) -> str:
        """The base model and other adapters answer as before."""
        return self.unload_adapter.name

    @property
    def leaves_a_trace(self) -> bool:
        """What it made room for is not the same afterwards."""
        return True

    def may_be_refused(self, engine: EngineState) -> bool:
        """There is none of this name, or no memory that it could leave."""
        return self.unload_adapter.name not in engine.adapters or "weights" in engine.asleep

    def changed(self, engine: EngineState) -> EngineState:
        """Its name means nothing any more."""
        return engine.after_unload(self.unload_adapter.name)
