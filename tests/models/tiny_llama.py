"""A Llama of a few kilobytes in GGUF form, and what its Hugging Face folder must hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize

HIDDEN, HEADS, KV_HEADS, LAYERS, INTERMEDIATE = 64, 4, 2, 2, 96
HEAD_DIM = HIDDEN // HEADS
CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*CONTROL_TOKENS, *"0123456789abcdefghijklmnopqrstuvwxyz", "Ġ", "Ċ", "th", "the", "Ġa"]
MERGES = ["t h", "th e", "Ġ a"]
CHAT_TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"

Weights = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True)
class TinyLlama:
    """The weights under their Hugging Face names; they can be stored as GGUF."""

    weights: dict[str, Weights]

    @classmethod
    def random(cls, seed: int) -> TinyLlama:
        """Draw all weights from a normal distribution."""
        draw = np.random.default_rng(seed)
        shapes = {"model.embed_tokens": (len(TOKENS), HIDDEN), "model.norm": (HIDDEN,)}
        for layer in range(LAYERS):
            shapes |= {
                f"model.layers.{layer}.input_layernorm": (HIDDEN,),
                f"model.layers.{layer}.post_attention_layernorm": (HIDDEN,),
                f"model.layers.{layer}.self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
                f"model.layers.{layer}.self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
                f"model.layers.{layer}.self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
                f"model.layers.{layer}.self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
                f"model.layers.{layer}.mlp.gate_proj": (INTERMEDIATE, HIDDEN),
                f"model.layers.{layer}.mlp.up_proj": (INTERMEDIATE, HIDDEN),
                f"model.layers.{layer}.mlp.down_proj": (HIDDEN, INTERMEDIATE),
            }
        return cls(
            {f"{name}.weight": draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        )

    def write_gguf(self, path: Path, *, quantization: GGMLQuantizationType) -> None:
        """Store the model as llama.cpp does: its own names, permuted projections, quantised matrices."""
        writer = GGUFWriter(path, "llama")
        writer.add_block_count(LAYERS)
        writer.add_context_length(256)
        writer.add_embedding_length(HIDDEN)
        writer.add_feed_forward_length(INTERMEDIATE)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_rope_freq_base(100000.0)
        writer.add_layer_norm_rms_eps(1e-05)
        writer.add_vocab_size(len(TOKENS))
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(TOKENS)
        controls = len(CONTROL_TOKENS)
        writer.add_token_types([TokenType.CONTROL] * controls + [TokenType.NORMAL] * (len(TOKENS) - controls))
        writer.add_token_merges(MERGES)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_pad_token_id(2)
        writer.add_chat_template(CHAT_TEMPLATE)
        for name, weights in self.weights.items():
            stored = permuted(weights, name)
            if stored.ndim == 1:
                writer.add_tensor(gguf_name(name), stored)
            else:
                writer.add_tensor(gguf_name(name), quantize(stored, quantization), raw_dtype=quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def gguf_name(name: str) -> str:
    """The name llama.cpp gives to a tensor of Hugging Face's Llama."""
    names = {
        "model.embed_tokens.": "token_embd.",
        "model.norm.": "output_norm.",
        "model.layers.": "blk.",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def permuted(weights: Weights, name: str) -> Weights:
    """What ``LlamaModel.permute`` of llama.cpp's ``convert_hf_to_gguf.py`` does to queries and keys."""
    if "q_proj" not in name and "k_proj" not in name:
        return weights
    heads = HEADS if "q_proj" in name else KV_HEADS
    rows = weights.shape[0]
    return (
        weights.reshape(heads, 2, rows // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )
