"""Cause class: lost buffers, and plain tensors beside them.  Checksums of weights show none of these."""

from __future__ import annotations

from harness.engine_plugin import compat
from harness.engine_plugin.faults.hooks import Worker, after_wake
from harness.engine_plugin.faults.registry import fault


@fault("lose-buffers", cause="lost buffers")
def lose_buffers() -> None:
    """Buffers, such as the rotary embedding's table, are zero after waking up (vllm#16564).

    No checkpoint has them: reloading weights does not heal it.
    """
    after_wake("weights", _zero_buffers)


@fault("lose-adapters", cause="adapter", needs=("--enable-lora",), adapters=True)
def lose_adapters() -> None:
    """LoRA adapters answer like the base model after a level-1 sleep (vllm#53888).

    After level 2 the reload makes vLLM load adapters again, which heals it.
    """
    after_wake("weights", _zero_adapters)


@fault("shrink-kv-scales", cause="kv scales", needs=("--kv-cache-dtype", "fp8"))
def shrink_kv_scales() -> None:
    """The scales of a quantised KV cache are 64 times too small after waking up (after vllm#45617).

    Keys and values are cut off at 7.
    """
    after_wake("kv_cache", _shrink_scales)


def _zero_buffers(worker: Worker) -> None:
    for model in compat.models(worker.model_runner):
        for buffer in model.buffers():
            buffer.data.zero_()


def _zero_adapters(worker: Worker) -> None:
    from harness.engine_plugin.tensors import tensors_in

    for module in worker.model_runner.model.modules():
        slots = [value for name, value in vars(module).items() if name.startswith("lora_")]
        for tensor in tensors_in(slots):
            tensor.data.zero_()


def _shrink_scales(worker: Worker) -> None:
    for module in worker.model_runner.model.modules():
        for name in ("_k_scale_float", "_v_scale_float"):
            if hasattr(module, name):
                setattr(module, name, getattr(module, name) / 64)
