"""The steps of an update by weight transfer: a trainer hands new weights to the running engine."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from harness.scenario.engine_state import EngineState
from harness.scenario.steps.base import BaseStep, CallOptions, Name
from harness.vllm_api.versions import Feature


class InitTransferOptions(CallOptions):
    """Parameters of ``POST /init_weight_transfer_engine``."""


class StartUpdateOptions(CallOptions):
    """Parameters of ``POST /start_weight_update``."""


class UpdateWeightsOptions(CallOptions):
    """Which weights arrive with ``POST /update_weights``."""

    weights: Literal["own", "other", "missing"] = Field(
        description="the model's own, those of a variant that answers otherwise, or a path without any"
    )
    chunk: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="which part of them, in the order of their names; without it all of them",
    )
    chunks: int | None = Field(default=None, ge=1, le=1000, description="of how many parts")
    leave_out: tuple[str, ...] = Field(
        default=(), description="patterns of tensors that do not arrive, as in `*.layers.0.mlp.*`"
    )

    @model_validator(mode="after")
    def _must_be_possible(self) -> UpdateWeightsOptions:
        if (self.chunk is None) != (self.chunks is None):
            raise ValueError("`chunk` says which part, and `chunks` of how many: name both")
        if self.chunk is not None and self.chunks is not None and self.chunk > self.chunks:
            raise ValueError(f"there is no part {self.chunk} of {self.chunks}")
        if self.weights == "missing" and not self.must_fail:
            raise ValueError("missing weights cannot arrive: add `must_fail: true`")
        return self


class FinishUpdateOptions(CallOptions):
    """Parameters of ``POST /finish_weight_update``."""

    version: Name | None = Field(default=None, description="what the new weights are called from now on")


class InitWeightTransfer(BaseStep):
    """Let the engine and the trainer agree on how weights are carried."""

    init_weight_transfer: InitTransferOptions

    feature: ClassVar[Feature | None] = Feature.WEIGHT_TRANSFER


class StartWeightUpdate(BaseStep):
    """Begin an update: from now on the engine has no weights that it could use."""

    start_weight_update: StartUpdateOptions

    feature: ClassVar[Feature | None] = Feature.WEIGHT_TRANSFER

    def may_be_refused(self, engine: EngineState) -> bool:
        """One at a time, and there may be nowhere to load to."""
        return engine.updating or "weights" in engine.asleep

    def changed(self, engine: EngineState) -> EngineState:
        """New weights are awaited."""
        return engine.after_update_began()


class UpdateWeights(BaseStep):
    """Have weights arrive, all of them or a part."""

    update_weights: UpdateWeightsOptions

    feature: ClassVar[Feature | None] = Feature.WEIGHT_TRANSFER

    @property
    def leaves_a_trace(self) -> bool:
        """Other weights may be loaded for good."""
        return True

    def may_be_refused(self, engine: EngineState) -> bool:
        """None has begun."""
        return not engine.updating

    def changed(self, engine: EngineState) -> EngineState:
        """These weights are on their way."""
        weights = self.update_weights.weights
        return engine if weights == "missing" else engine.after_arrival(weights)


class FinishWeightUpdate(BaseStep):
    """End an update: the engine has the weights that arrived."""

    finish_weight_update: FinishUpdateOptions

    takes_memory: ClassVar[bool] = False
    feature: ClassVar[Feature | None] = Feature.WEIGHT_TRANSFER

    @property
    def leaves_a_trace(self) -> bool:
        """The version stays."""
        return True

    def changed(self, engine: EngineState) -> EngineState:
        """The weights that arrived are loaded, and have this version."""
        return engine.after_update_ended(self.finish_weight_update.version)

    def may_be_refused(self, engine: EngineState) -> bool:
        """None has begun."""
        return not engine.updating

    def refused(self, engine: EngineState) -> EngineState:
        """An update whose end is refused is over as well, and has changed nothing."""
        return engine.after_update_began().after_update_ended(None)
