"""A model folder as far as the harness reads one; the fake knows the weights of that name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.fake_vllm import vocabulary
from tests.fake_vllm.options import DEFAULT_MODEL


def write_toy_model(parent: Path) -> Path:
    """Write it into ``parent``; return its folder, beside which variants of it are kept."""
    folder = parent / DEFAULT_MODEL
    folder.mkdir()
    shapes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    configuration = {"eos_token_id": vocabulary.END_OF_SEQUENCE, "vocab_size": vocabulary.SIZE, **shapes}
    (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
    matrices = {f"model.layers.{n}.mlp.down_proj.weight": np.full((2, 2), n, np.float32) for n in range(2)}
    save_file(matrices, folder / "model.safetensors")
    return folder
