"""The steps that make the engine forget what it has cached."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from harness.scenario.steps.base import BaseStep, CallOptions
from harness.vllm_api.versions import Feature


class ResetPrefixCacheOptions(CallOptions):
    """Parameters of ``POST /reset_prefix_cache``."""

    running_requests: bool = Field(
        default=False, description="preempts running requests, which otherwise keep the cache as it is"
    )
    external: bool = Field(default=False, description="resets a KV connector's cache as well")


class ResetPrefixCache(BaseStep):
    """Forget every cached prefix."""

    reset_prefix_cache: ResetPrefixCacheOptions

    takes_memory: ClassVar[bool] = False

    @property
    def features(self) -> frozenset[Feature]:
        """Its parameters came one after the other."""
        options = self.reset_prefix_cache
        running = {Feature.RESET_RUNNING_REQUESTS} if options.running_requests else set()
        external = {Feature.RESET_EXTERNAL} if options.external else set()
        return frozenset(running | external)


class ResetMmCache(BaseStep):
    """Forget every preprocessed picture, sound and film."""

    reset_mm_cache: CallOptions

    takes_memory: ClassVar[bool] = False
    feature: ClassVar[Feature | None] = Feature.RESET_MM_CACHE


class ResetEncoderCache(BaseStep):
    """Forget what encoders made of pictures, sounds and films."""

    reset_encoder_cache: CallOptions

    takes_memory: ClassVar[bool] = False
    feature: ClassVar[Feature | None] = Feature.RESET_ENCODER_CACHE
