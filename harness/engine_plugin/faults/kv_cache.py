"""Cause class: KV cache.  Weights and buffers are right; what is kept of keys and values is not."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.engine_plugin import compat
from harness.engine_plugin.faults.hooks import Worker, Wrapper, counted_wakes, on_worker_start, wrap
from harness.engine_plugin.faults.registry import fault

if TYPE_CHECKING:
    from torch import Tensor


@fault("round-keys-and-values", cause="kv cache")
def round_keys_and_values() -> None:
    """After waking up keys and values are kept with three bits of precision, whatever the cache's type."""
    # Loading it takes longer than all of the command that only lists faults.
    from unittest.mock import patch

    def start(worker: Worker) -> None:
        layers = [
            module
            for model in compat.models(worker.model_runner)
            for module in model.modules()
            if hasattr(module, "kv_cache")
        ]
        wakes = counted_wakes(worker)

        def execute_model(original: Wrapper, *arguments: Any, **options: Any) -> Any:
            with ExitStack() as rounding:
                for layer in layers if wakes() else ():
                    rounding.enter_context(
                        patch.object(layer, "forward", partial(_with_rounded, layer.forward))
                    )
                return original(*arguments, **options)

        wrap(worker, "execute_model", execute_model)

    on_worker_start(start)


def _with_rounded(
    original: Wrapper, query: Tensor, key: Tensor, value: Tensor, *arguments: Any, **options: Any
) -> Any:
    return original(query, _rounded(key), _rounded(value), *arguments, **options)


def _rounded(tensor: Tensor) -> Tensor:
    import torch

    return tensor.to(torch.float8_e4m3fn).to(tensor.dtype)
