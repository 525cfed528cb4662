"""Which tensors belong to which tag of vLLM's sleep mode.

On a GPU the tag of a tensor is the memory pool it was allocated from: ``weights`` while the model is loaded,
``kv_cache`` while the cache is set up.  On a CPU there are no pools, so the tensors are looked for where the
model and the model runner keep them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def model_tensors(models: Iterable[nn.Module]) -> Iterator[torch.Tensor]:
    """Parameters, buffers and plain tensor attributes.

    The last are easily forgotten (vllm#53888): the slots for LoRA adapters are plain attributes.
    """
    for model in models:
        for module in model.modules():
            yield from tensors_in(vars(module))


def buffers(models: Iterable[nn.Module]) -> Iterator[torch.Tensor]:
    """What survives a level-2 sleep, because no checkpoint has it (vllm#16564)."""
    for model in models:
        yield from model.buffers()


def checksums_of_buffers(model: nn.Module) -> dict[str, str]:
    """SHA-256 of every buffer, by its name."""
    return {name: _checksum(buffer) for name, buffer in model.named_buffers()}


def _checksum(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy().tobytes()).hexdigest()
