"""Makes LoRA adapters for a model, from nothing but its ``config.json``.

They are real adapters in PEFT's form with weights drawn at random from a fixed seed: strong enough that every
answer changes clearly, weak enough that the model goes on in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from harness.errors import ModelError

RANK = 8
STRENGTH = 0.2
"""Standard deviation of the second factor; the first has 1 over the root of its width."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Outputs and inputs of each projection of an attention layer, and how many layers there are."""

    layers: int
    projections: Mapping[str, tuple[int, int]]


def shapes_of(config: Path) -> Shapes:
    """Read the shapes of a Llama-like model.

    Raises:
        ModelError: ``config`` is not that of a Llama-like model.
    """
    try:
        told = json.loads(config.read_bytes())
        hidden, heads, layers = (
            int(told[name]) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")
        )
        key_value_heads = int(told.get("num_key_value_heads") or heads)
        head = int(told.get("head_dim") or hidden // heads)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"no adapter can be created for this model: {config}: {error!r}",
            remedy="use a Llama-like model, whose config.json names hidden_size, num_attention_heads "
            "and num_hidden_layers",
        ) from error
    return Shapes(
        layers=layers,
        projections={
            "q_proj": (heads * head, hidden),
            "k_proj": (key_value_heads * head, hidden),
            "v_proj": (key_value_heads * head, hidden),
            "o_proj": (hidden, heads * head),
        },
    )


def write_adapter(folder: Path, *, shapes: Shapes, seed: int) -> None:
    """Write an adapter of all attention projections into ``folder``."""
    random = np.random.default_rng(seed)

    def drawn(rows: int, columns: int, deviation: float) -> npt.NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * deviation).astype(np.float32)

    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for layer in range(shapes.layers):
        for projection, (outputs, inputs) in shapes.projections.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{projection}"
            tensors[f"{name}.lora_A.weight"] = drawn(RANK, inputs, inputs**-0.5)
            tensors[f"{name}.lora_B.weight"] = drawn(outputs, RANK, STRENGTH)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    configuration = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(shapes.projections),
    }
    text = json.dumps(configuration, indent=2) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
