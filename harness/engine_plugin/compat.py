"""All that differs between vLLM 0.9.2 and 0.32, found by looking for features, never by version."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from vllm.config import ModelConfig
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer
    from vllm.v1.worker.worker_base import WorkerWrapperBase

logger = logging.getLogger("vllm.sleepwake")

CPU_WORKER = "vllm.v1.worker.cpu_worker.CPUWorker"
SLEEPING_PLATFORM = "harness.engine_plugin.cpu_platform.SleepingCpuPlatform"


def is_cpu_engine() -> bool:
    """Whether vLLM itself takes this for a CPU engine; the sleep mode needs Linux besides."""
    if sys.platform != "linux":
        return False
    from vllm.platforms import builtin_platform_plugins

    return builtin_platform_plugins["cpu"]() is not None


def warn_if_sleep_mode_is_absent() -> None:
    """Say so in the log if the sleep mode was asked for and vLLM did not take it."""
    from vllm.platforms import current_platform

    # By name: on an engine for GPUs, vLLM's CPU platform need not even be importable.
    if f"{type(current_platform).__module__}.{type(current_platform).__name__}" != SLEEPING_PLATFORM:
        logger.warning(
            "SLEEPWAKE_CPU_SLEEP=1 has no effect: it gives a sleep mode to CPU engines on Linux, this engine "
            "runs on %s, and vLLM is left as it is. (VLLM_TARGET_DEVICE=cpu and VLLM_PLUGINS can keep a CPU "
            "engine from it: unset them.)",
            type(current_platform).__name__,
        )


def worker_wrapper() -> type[WorkerWrapperBase]:
    """The class around each worker; it lived elsewhere up to 0.10."""
    from vllm.v1.worker import worker_base

    if not hasattr(worker_base, "WorkerWrapperBase"):
        from vllm.worker import worker_base  # type: ignore[import-not-found, no-redef]

    return worker_base.WorkerWrapperBase


def engine_core() -> type[EngineCore]:
    """The class that schedules requests, in whatever process it runs."""
    from vllm.v1.engine.core import EngineCore

    return EngineCore


def front_end() -> type[AsyncLLM]:
    """The class in the process that serves HTTP: it hands requests over and gives answers back."""
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM


def detokenizer() -> type[BaseIncrementalDetokenizer]:
    """The class that makes an answer's text, token by token, and looks for stop strings in it."""
    from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer

    return BaseIncrementalDetokenizer


def register_weight_transfer() -> None:
    """Let engines take new weights from files (``weight_transfer.py``), in releases that can."""
    try:
        from vllm.distributed.weight_transfer import WeightTransferEngineFactory as Factory
    except ImportError:
        logger.warning("SLEEPWAKE_WEIGHT_TRANSFER=1 has no effect: this release has no weight transfer.")
        return
    Factory.register_engine("sleepwake", "harness.engine_plugin.weight_transfer", "FileTransferEngine")


@contextmanager
def without_cuda_allocator(model_config: ModelConfig) -> Iterator[None]:
    """Load weights, or allocate the KV cache, without the CUDA memory pool that sleep mode implies.

    The newest versions know by themselves that a CPU has none.
    """
    enabled, model_config.enable_sleep_mode = model_config.enable_sleep_mode, False
    try:
        yield
    finally:
        model_config.enable_sleep_mode = enabled


def keep_weights_unpacked() -> None:
    """Keep linear layers' weights in tensors, where they can be discarded, restored and checked.

    From 0.10.2 on vLLM packs them into memory of oneDNN or SGL kernels and empties the parameters: that
    memory could not be given back, and ``/weight_checker`` would call any two models equal.
    """
    from vllm import _custom_ops
    from vllm.model_executor.layers import utils

    if hasattr(_custom_ops, "_supports_onednn"):
        _custom_ops._supports_onednn = False  # noqa: SLF001  (there is no other switch)
    if hasattr(utils, "check_cpu_sgl_kernel"):
        utils.check_cpu_sgl_kernel = lambda *_arguments: False


def models(model_runner: object) -> list[nn.Module]:
    """The model, and the draft model where speculative decoding has one."""
    from torch import nn

    drafter = getattr(model_runner, "drafter", None)
    candidates = (getattr(model_runner, "model", None), getattr(drafter, "model", None))
    return [candidate for candidate in candidates if isinstance(candidate, nn.Module)]
