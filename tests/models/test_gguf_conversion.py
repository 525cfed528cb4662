"""The conversion of a GGUF file into the folder vLLM loads."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import deserialize
from tokenizers import Tokenizer

from harness.models.gguf_conversion import as_bfloat16, convert, hugging_face_name, undo_rotary_permutation
from tests.models.tiny_llama import CHAT_TEMPLATE, CONTROL_TOKENS, TOKENS, TinyLlama, Weights


def converted(tmp_path: Path, llama: TinyLlama, quantization: GGMLQuantizationType) -> Path:
    """Store ``llama`` as GGUF and convert it."""
    llama.write_gguf(tmp_path / "tiny.gguf", quantization=quantization)
    convert(tmp_path / "tiny.gguf", tmp_path / "folder")
    return tmp_path / "folder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A converted tiny model whose weights were stored exactly."""
    return converted(tmp_path, TinyLlama.random(seed=1), GGMLQuantizationType.F32)


def stored_weights(folder: Path) -> dict[str, Weights]:
    """What the safetensors library reads from the folder."""
    tensors = deserialize((folder / "model.safetensors").read_bytes())  # type: ignore[no-untyped-call]  # it has no types
    assert {tensor["dtype"] for _, tensor in tensors} == {"BF16"}
    return {
        name: from_bfloat16(np.frombuffer(t["data"], np.uint16)).reshape(t["shape"]) for name, t in tensors
    }


def from_bfloat16(halves: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> Weights:
    """Widen: bfloat16 is the upper half of a float32."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def test_weights_come_back_under_their_hugging_face_names(folder: Path) -> None:
    """Names, shapes and values survive, queries and keys un-permuted, to the precision of bfloat16."""
    original = TinyLlama.random(seed=1).weights
    stored = stored_weights(folder)
    assert stored.keys() == original.keys()
    for name, weights in original.items():
        np.testing.assert_allclose(stored[name], weights, rtol=2**-8, err_msg=name)


def test_quantised_weights_come_back_close(tmp_path: Path) -> None:
    """Four-bit weights are dequantised: near the original, on a grid of at most 16 values a block."""
    llama = TinyLlama.random(seed=2)
    stored = stored_weights(converted(tmp_path, llama, GGMLQuantizationType.Q4_1))
    name = "model.layers.1.self_attn.k_proj.weight"
    np.testing.assert_allclose(stored[name], llama.weights[name], atol=0.25)
    assert len(np.unique(stored[name][0, :32])) <= 16


def test_config_suits_transformers_4_and_5(folder: Path) -> None:
    """Old versions look for rope_theta and torch_dtype at the top level; tied embeddings are declared."""
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == 100000.0
    assert config["torch_dtype"] == "bfloat16"
    assert config["tie_word_embeddings"] is True
    assert config["rms_norm_eps"] == 1e-05
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (4, 2, 16)


def test_tokenizer_config_carries_the_chat_template(folder: Path) -> None:
    """Before 0.2x vLLM finds class, chat template and special tokens nowhere else."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["chat_template"] == CHAT_TEMPLATE
    assert (config["bos_token"], config["eos_token"]) == ("<|im_start|>", "<|im_end|>")


def test_tokenizer_merges_and_splits(folder: Path) -> None:
    """Merges apply, digits stand alone, a special token is one token, and decoding gives the text back."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("the a 12").tokens == ["the", "Ġa", "Ġ", "1", "2"]
    assert tokenizer.encode("<|im_end|>the").ids == [2, TOKENS.index("the")]
    text = "the zoo\n42"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_special_tokens_are_left_out_of_plain_text(folder: Path) -> None:
    """Control tokens of the GGUF file are special tokens of the tokenizer."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(range(len(CONTROL_TOKENS)), skip_special_tokens=True) == ""


def test_conversion_is_deterministic(tmp_path: Path, folder: Path) -> None:
    """Converting twice gives the same bytes: the checksum says which model it is."""
    convert(tmp_path / "tiny.gguf", tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_unknown_tensor_is_refused() -> None:
    """A model of another architecture is not converted into nonsense."""
    with pytest.raises(KeyError, match="ssm_conv1d"):
        hugging_face_name("blk.0.ssm_conv1d.weight")


@given(
    heads=st.sampled_from([1, 2, 4, 8]),
    weights=arrays(np.float32, (16, 3), elements=st.floats(-1, 1, width=32)),
)
def test_permutation_is_undone(heads: int, weights: Weights) -> None:
    """Undoing llama.cpp's permutation gives the original rows, for every number of heads."""
    rows = weights.shape[0]
    stored = weights.reshape(heads, 2, rows // heads // 2, 3).swapaxes(1, 2).reshape(weights.shape)
    np.testing.assert_array_equal(undo_rotary_permutation(stored, heads=heads), weights)


@given(st.floats(width=32, min_value=-(2**100), max_value=2**100))
def test_bfloat16_is_the_nearest(value: float) -> None:
    """Rounding goes to the nearer neighbour, and to the even one from the middle."""
    (rounded,) = as_bfloat16(np.array([value], np.float32))
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    below, above = bits >> 16, (bits >> 16) + 1
    distance_below, distance_above = bits - (below << 16), (above << 16) - bits
    if distance_below == distance_above:
        assert rounded == (below if below % 2 == 0 else above)
    else:
        assert rounded == (below if distance_below < distance_above else above)
