"""A toy transformer whose every input is real: weights, positions and the KV cache's contents.

Two layers of attention and perceptron with random weights.  Two layers, because then the keys and values of
a token depend on those before it: one stale block spoils the blocks computed after it, as in real models.
Each token is computed by the same operations on the same shapes whether it belongs to a prompt or an answer,
is read from the cache or not, and whoever its neighbours are.  Answers are therefore exactly reproducible.

The constants are chosen so that of answers of 64 tokens a third stop early and a quarter repeat themselves
legitimately.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tests.fake_vllm import vocabulary

Array: TypeAlias = NDArray[np.float32]
Weights: TypeAlias = dict[str, Array]

LAYERS = 2
WIDTH = 16
_INNER = 2 * WIDTH
KV_SHAPE = (LAYERS, 2, WIDTH)
"""What one token occupies in a KV block: for each layer a key and a value."""

_POSITION_AMPLITUDE = 0.6
_LONGEST_WAVE = 200.0
_END_OF_SEQUENCE_BIAS = 3.0
_SPECIAL_BIAS = -3.0


def load_weights(model: str) -> Weights:
    """The weights of the model of this name: always the same for the same name."""
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(model.encode()).digest()[:8]))

    def matrix(rows: int, columns: int, scale: float) -> Array:
        normal = random.standard_normal((rows, columns))
        return np.asarray(normal * scale / np.sqrt(columns), dtype=np.float32)

    weights = {"model.embed_tokens.weight": matrix(vocabulary.SIZE, WIDTH, scale=np.sqrt(WIDTH))}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        query, key, value = matrix(WIDTH, WIDTH, 2.0), matrix(WIDTH, WIDTH, 2.0), matrix(WIDTH, WIDTH, 1.0)
        weights[f"{prefix}.self_attn.qkv_proj.weight"] = np.concatenate([query, key, value])
        weights[f"{prefix}.self_attn.o_proj.weight"] = matrix(WIDTH, WIDTH, 2.0)
        weights[f"{prefix}.mlp.up_proj.weight"] = matrix(_INNER, WIDTH, 1.5)
        weights[f"{prefix}.mlp.down_proj.weight"] = matrix(WIDTH, _INNER, 1.5)
    weights["lm_head.weight"] = matrix(vocabulary.SIZE, WIDTH, 3.0)
    bias = np.zeros(vocabulary.SIZE, dtype=np.float32)
    bias[: len(vocabulary.SPECIAL_TOKENS)] = _SPECIAL_BIAS
    bias[vocabulary.END_OF_SEQUENCE] = _END_OF_SEQUENCE_BIAS
    weights["lm_head.bias"] = bias
    return weights


def load_adapter(content: bytes) -> Weights:
    """A low-rank change of the attention's outputs: always the same for the same content."""
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(content).digest()[:8]))
    return {
        f"model.layers.{layer}.self_attn.o_proj": (
            np.outer(random.standard_normal(WIDTH), random.standard_normal(WIDTH)) / np.sqrt(WIDTH)
        ).astype(np.float32)
        for layer in range(LAYERS)
    }


class ToyModel:
    """Computes with weights that somebody else owns, and may discard or exchange at any time."""

    def __init__(self, weights: Weights, *, max_model_len: int) -> None:
        self.weights = weights
        self.positions = _position_embeddings(max_model_len)
        """A buffer: no checkpoint has it, and no reload brings it back."""

    def compute(self, token: int, position: int, context: Array, adapter: Weights | None) -> Array:
        """Hidden state of ``token``, which has ``context``, shape ``[position + 1, *KV_SHAPE]``, behind it.

        The last row of ``context`` is the token's own: its keys and values are written there.
        """
        weights = self.weights
        hidden: Array = weights["model.embed_tokens.weight"][token] + self.positions[position]
        for layer in range(LAYERS):
            prefix = f"model.layers.{layer}"
            projected = weights[f"{prefix}.self_attn.qkv_proj.weight"] @ _normalised(hidden)
            context[position, layer] = projected[WIDTH:].reshape(2, WIDTH)
            attended = _attend(projected[:WIDTH], context[:, layer, 0], context[:, layer, 1])
            hidden = hidden + weights[f"{prefix}.self_attn.o_proj.weight"] @ attended
            if adapter is not None:
                hidden = hidden + adapter[f"{prefix}.self_attn.o_proj"] @ attended
            inner = np.tanh(weights[f"{prefix}.mlp.up_proj.weight"] @ _normalised(hidden))
            hidden = hidden + weights[f"{prefix}.mlp.down_proj.weight"] @ inner
        return hidden

    def logits(self, hidden: Array) -> Array:
        """A logit for every token of the vocabulary."""
        scores: Array = self.weights["lm_head.weight"] @ _normalised(hidden) + self.weights["lm_head.bias"]
        return scores


def _attend(query: Array, keys: Array, values: Array) -> Array:
    scores = keys @ query * np.float32(1 / np.sqrt(WIDTH))
    likelihood = np.exp(scores - scores.max())
    attended: Array = (likelihood / likelihood.sum()) @ values
    return attended


def _normalised(hidden: Array) -> Array:
    normalised: Array = hidden / np.sqrt(hidden @ hidden / np.float32(WIDTH) + np.float32(1e-5))
    return normalised


def _position_embeddings(count: int) -> Array:
    waves = np.arange(count)[:, None] / _LONGEST_WAVE ** (np.arange(WIDTH // 2) / (WIDTH // 2))
    both = np.concatenate([np.sin(waves), np.cos(waves)], axis=1)
    return np.asarray(_POSITION_AMPLITUDE * both, dtype=np.float32)
