"""Turns a Llama model in GGUF form into the Hugging Face folder that vLLM loads.

It runs as a program of its own (``python -m harness.models.gguf_conversion FILE FOLDER``), so that the
harness never holds a model's weights in its memory.  Everything the folder needs is inside the GGUF file:
weights, vocabulary, merges and chat template.  The files are written so that every vLLM from 0.8 on reads
them, with transformers 4 and 5 alike.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from gguf import GGUFReader, ReaderTensor, TokenType
from gguf.quants import dequantize

from harness.models.safetensors_file import Header, packed

Float32Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

# GGUF name -> Hugging Face name, outside and inside of a layer ("blk.7.attn_q" -> "model.layers.7....").
MODEL_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf_file: Path, folder: Path) -> None:
    """Write configuration, tokenizer and bfloat16 weights of the model in ``gguf_file`` into ``folder``."""
    reader = GGUFReader(gguf_file)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", model_config(reader))
    write_json(folder / "generation_config.json", generation_config(reader))
    write_json(folder / "tokenizer.json", tokenizer(reader))
    write_json(folder / "tokenizer_config.json", tokenizer_config(reader))
    write_weights(folder / "model.safetensors", reader)


def model_config(reader: GGUFReader) -> dict[str, object]:
    """``config.json``: ``torch_dtype`` and a top-level ``rope_theta`` are what transformers 4 looks for."""
    hidden_size = integer(reader, "llama.embedding_length")
    heads = integer(reader, "llama.attention.head_count")
    epsilon = number(reader, "llama.attention.layer_norm_rms_epsilon")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": integer(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": integer(reader, "tokenizer.ggml.eos_token_id"),
        "head_dim": hidden_size // heads,
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "intermediate_size": integer(reader, "llama.feed_forward_length"),
        "max_position_embeddings": integer(reader, "llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": integer(reader, "llama.block_count"),
        "num_key_value_heads": integer(reader, "llama.attention.head_count_kv"),
        "rms_norm_eps": round(epsilon, 9),  # stored as float32: 9.999999747e-06
        "rope_scaling": None,
        "rope_theta": number(reader, "llama.rope.freq_base"),
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": integer(reader, "llama.vocab_size"),
    }


def generation_config(reader: GGUFReader) -> dict[str, object]:
    """``generation_config.json``: where an answer ends, and no sampling defaults."""
    return {
        "bos_token_id": integer(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": integer(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": integer(reader, "tokenizer.ggml.padding_token_id"),
    }


def tokenizer(reader: GGUFReader) -> dict[str, object]:
    """``tokenizer.json``: byte-level BPE whose digits stand alone, as llama.cpp's ``smollm`` rule says."""
    digits = {"type": "Digits", "individual_digits": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokens = vocabulary(reader)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, **added_token(tokens[index])} for index in control_token_ids(reader)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": field(reader, "tokenizer.ggml.merges"),
        },
    }


def tokenizer_config(reader: GGUFReader) -> dict[str, object]:
    """``tokenizer_config.json``: transformers 4 wants this class and the chat template in here."""
    tokens = vocabulary(reader)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(index): added_token(tokens[index]) for index in control_token_ids(reader)
        },
        "bos_token": tokens[integer(reader, "tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[integer(reader, "tokenizer.ggml.eos_token_id")],
        "unk_token": tokens[integer(reader, "tokenizer.ggml.unknown_token_id")],
        "pad_token": tokens[integer(reader, "tokenizer.ggml.padding_token_id")],
        "clean_up_tokenization_spaces": False,
        "model_max_length": integer(reader, "llama.context_length"),
        "chat_template": field(reader, "tokenizer.chat_template"),
    }


def added_token(content: str) -> dict[str, object]:
    """One special token, as ``tokenizers`` writes it."""
    return {
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def vocabulary(reader: GGUFReader) -> list[str]:
    """Every token, at the position that is its id."""
    return cast("list[str]", field(reader, "tokenizer.ggml.tokens"))


def control_token_ids(reader: GGUFReader) -> list[int]:
    """The ids of the special tokens."""
    kinds = cast("list[int]", field(reader, "tokenizer.ggml.token_type"))
    return [index for index, kind in enumerate(kinds) if kind == TokenType.CONTROL]


def field(reader: GGUFReader, name: str) -> object:
    """The value of one metadata field; KeyError when the file has none."""
    return reader.fields[name].contents()


def integer(reader: GGUFReader, name: str) -> int:
    """The value of one whole-number metadata field."""
    return int(cast("int", field(reader, name)))


def number(reader: GGUFReader, name: str) -> float:
    """The value of one metadata field that is a number."""
    return float(cast("float", field(reader, name)))


def write_weights(path: Path, reader: GGUFReader) -> None:
    """Write all tensors as one safetensors file, holding one tensor in memory at a time."""
    heads = {
        "q_proj": integer(reader, "llama.attention.head_count"),
        "k_proj": integer(reader, "llama.attention.head_count_kv"),
    }
    with path.open("wb") as file:
        file.write(packed(header_of(reader.tensors)))
        for name, tensor in named(reader.tensors):
            weights = dequantised(tensor)
            projection = name.split(".")[-2]
            if projection in heads:
                weights = undo_rotary_permutation(weights, heads=heads[projection])
            file.write(as_bfloat16(weights).tobytes())


def header_of(tensors: list[ReaderTensor]) -> Header:
    """Each tensor's name, type, shape and place in the data."""
    header: Header = {}
    end = 0
    for name, tensor in named(tensors):
        begin, end = end, end + 2 * int(tensor.n_elements)
        shape = [int(length) for length in reversed(tensor.shape)]  # GGUF names the fastest dimension first
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    return header


def named(tensors: list[ReaderTensor]) -> Iterator[tuple[str, ReaderTensor]]:
    """Each tensor with its Hugging Face name."""
    return ((hugging_face_name(tensor.name), tensor) for tensor in tensors)


def hugging_face_name(gguf_name: str) -> str:
    """The name Hugging Face's Llama gives to a GGUF tensor; KeyError for one it does not have."""
    if layer := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", gguf_name):
        return f"model.layers.{layer[1]}.{LAYER_TENSORS[layer[2]]}.weight"
    return f"{MODEL_TENSORS[gguf_name.removesuffix('.weight')]}.weight"


def dequantised(tensor: ReaderTensor) -> Float32Array:
    """The tensor's values as float32, in its Hugging Face shape."""
    shape = tuple(int(length) for length in reversed(tensor.shape))
    return dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)


def undo_rotary_permutation(weights: Float32Array, *, heads: int) -> Float32Array:
    """Undo what llama.cpp does to the query and key projections.

    It stores the two halves of each head's rows interleaved (``LlamaModel.permute`` in its
    ``convert_hf_to_gguf.py``); Hugging Face's rotary embedding expects one half after the other.
    """
    rows, columns = weights.shape
    interleaved = weights.reshape(heads, rows // heads // 2, 2, columns)
    return interleaved.swapaxes(1, 2).reshape(rows, columns)


def as_bfloat16(
    weights: Float32Array,
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """The upper half of each float32, rounded to nearest, ties to even (numpy has no bfloat16)."""
    bits = np.ascontiguousarray(weights).view(np.uint32)
    round_up_from = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + round_up_from) >> np.uint32(16)).astype(np.uint16)


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write ``content`` the same way every time, so that the checksum is stable."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
