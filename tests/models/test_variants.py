"""Adapters and other weights that are made from a model's own folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.errors import ModelError
from harness.models.adapters import RANK, shapes_of
from harness.models.model import Model, model_in_folder, model_on_hub
from harness.models.other_weights import write_other_weights
from harness.models.safetensors_file import copy_exchanging, read_header
from harness.models.variants import ADAPTERS, Variants, provide_variants, variants_of

CONFIG = {
    "hidden_size": 12,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": 4,
}


def down(layer: int) -> str:
    """The name of the matrix that changes places."""
    return f"model.layers.{layer}.mlp.down_proj.weight"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A folder with the configuration and the perceptrons of a small Llama."""
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    tensors = {down(layer): np.full((12, 20), layer, np.float32) for layer in range(4)}
    save_file({**tensors, "model.norm.weight": np.ones(12, np.float32)}, folder / "model.safetensors")
    return model_in_folder(folder, dtype="auto")


@pytest.fixture
def variants(model: Model, tmp_path: Path) -> Variants:
    """Both adapters and the other weights, made."""
    cache = tmp_path / "cache"
    provide_variants(model, adapters=True, other_weights=True, cache_dir=cache)
    return variants_of(model, exchanged=tmp_path / "exchanged", cache_dir=cache)


def test_an_adapter_has_the_shapes_of_the_model(variants: Variants) -> None:
    """Every attention projection of every layer gets two factors, in PEFT's names."""
    tensors = load_file(variants.adapters["first"] / "adapter_model.safetensors")
    assert len(tensors) == 4 * 4 * 2
    prefix = "base_model.model.model.layers.3.self_attn"
    shapes = {
        name: (
            tensors[f"{prefix}.{name}.lora_A.weight"].shape,
            tensors[f"{prefix}.{name}.lora_B.weight"].shape,
        )
        for name in ("q_proj", "k_proj", "v_proj", "o_proj")
    }
    assert shapes == {
        "q_proj": ((RANK, 12), (12, RANK)),
        "k_proj": ((RANK, 12), (4, RANK)),
        "v_proj": ((RANK, 12), (4, RANK)),
        "o_proj": ((RANK, 12), (12, RANK)),
    }
    assert all(np.isfinite(tensor).all() and tensor.any() for tensor in tensors.values())
    configuration = json.loads((variants.adapters["first"] / "adapter_config.json").read_bytes())
    assert (configuration["r"], configuration["peft_type"]) == (RANK, "LORA")


def test_the_adapters_differ_and_are_made_alike_each_time(
    variants: Variants, model: Model, tmp_path: Path
) -> None:
    """Two seeds, two adapters; the same seed gives the same bytes."""
    first, second = (variants.adapters[name] / "adapter_model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() != second.read_bytes()
    provide_variants(model, adapters=True, other_weights=False, cache_dir=tmp_path / "another")
    again = variants_of(model, exchanged=tmp_path, cache_dir=tmp_path / "another").adapters["first"]
    assert (again / "adapter_model.safetensors").read_bytes() == first.read_bytes()


def test_other_weights_exchange_two_layers_in_the_middle(variants: Variants) -> None:
    """Everything is there and as large as it was; two matrices have changed places."""
    assert variants.other_weights is not None
    tensors = load_file(variants.other_weights / "model.safetensors")
    assert [tensors[down(layer)][0, 0] for layer in range(4)] == [0, 2, 1, 3]
    assert tensors["model.norm.weight"].tolist() == [1] * 12
    assert json.loads((variants.other_weights / "config.json").read_bytes()) == CONFIG


def test_what_is_sound_is_not_made_again(variants: Variants, model: Model, tmp_path: Path) -> None:
    """The second time nothing is written."""
    file = variants.adapters["second"] / "adapter_model.safetensors"
    before = file.stat().st_mtime_ns, file.stat().st_ino
    provide_variants(model, adapters=True, other_weights=True, cache_dir=tmp_path / "cache")
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


def test_what_was_damaged_is_made_again(variants: Variants, model: Model, tmp_path: Path) -> None:
    """A file that is not as it was finished is not used, and what an aborted maker left is swept."""
    file = variants.adapters["second"] / "adapter_model.safetensors"
    sound = file.read_bytes()
    file.write_bytes(sound[:-1])
    leftover = file.parent.with_name("second-adapter.unfinished-1")
    leftover.mkdir()
    provide_variants(model, adapters=True, other_weights=False, cache_dir=tmp_path / "cache")
    assert file.read_bytes() == sound
    assert not leftover.exists()


def test_another_model_of_the_same_name_has_its_own(variants: Variants, model: Model, tmp_path: Path) -> None:
    """Variants go by what is in the folder, not by what it is called."""
    assert model.folder is not None
    (model.folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 7}), encoding="utf-8")
    changed = model_in_folder(model.folder, dtype="auto")
    other = variants_of(changed, exchanged=tmp_path, cache_dir=tmp_path / "cache")
    assert other.adapters["first"] != variants.adapters["first"]


def test_a_model_without_a_folder_has_no_variants(tmp_path: Path) -> None:
    """Nothing is made, and nothing is named but its own weights."""
    hub = model_on_hub("Qwen/Qwen3-0.6B", dtype="auto")
    provide_variants(hub, adapters=True, other_weights=True, cache_dir=tmp_path / "cache")
    variants = variants_of(hub, exchanged=tmp_path, cache_dir=tmp_path / "cache")
    assert (variants.own_weights, variants.other_weights, dict(variants.adapters)) == (hub.location, None, {})
    assert not (tmp_path / "cache").exists()


def test_exchanged_adapters_keep_their_path(variants: Variants) -> None:
    """At one path of a name lies first one adapter, then the other, whole each time."""
    contents = []
    for name in ADAPTERS:
        path = variants.adapter(name, at_path_of="x")
        assert path == variants.exchanged / "x"
        contents.append((path / "adapter_model.safetensors").read_bytes())
        assert contents[-1] == (variants.adapters[name] / "adapter_model.safetensors").read_bytes()
    assert contents[0] != contents[1]
    assert not [file for file in path.iterdir() if file.name.startswith(".")]


def test_a_model_that_is_no_llama_is_refused(tmp_path: Path) -> None:
    """What cannot be adapted is said in words, with what would do."""
    config = tmp_path / "config.json"
    config.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="no adapter can be created") as refused:
        shapes_of(config)
    assert "hidden_size" in refused.value.remedy


@pytest.mark.parametrize(
    "tensors",
    [
        {"model.norm.weight": np.ones(2, np.float32)},
        {down(0): np.ones((2, 2), np.float32)},
        {down(0): np.ones((2, 2), np.float32), down(1): np.ones((2, 3), np.float32)},
    ],
    ids=["no layers", "one layer", "of other shapes"],
)
def test_weights_without_two_like_layers_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Two neighbouring matrices of one shape are needed."""
    source, target = tmp_path / "model", tmp_path / "other"
    source.mkdir()
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(ModelError, match="no two neighbouring layers of equal shape"):
        write_other_weights(source, target)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    """A header length that cannot be is noticed."""
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 16)
    with pytest.raises(ModelError, match="not a safetensors file"):
        write_other_weights(tmp_path, tmp_path / "other")


def test_exchanging_twice_gives_the_same_tensors(tmp_path: Path) -> None:
    """Nothing is lost on the way there and back."""
    tensors = {name: np.arange(6, dtype=np.float32).reshape(2, 3) + i for i, name in enumerate("abc")}
    source, once, twice = (tmp_path / name for name in ("source", "once", "twice"))
    save_file(tensors, source)
    copy_exchanging(source, once, {"a": "c"})
    copy_exchanging(once, twice, {"a": "c"})
    exchanged, back = load_file(once), load_file(twice)
    assert (exchanged["a"] == tensors["c"]).all()
    assert (exchanged["c"] == tensors["a"]).all()
    assert all((back[name] == tensors[name]).all() for name in "abc")
    assert read_header(twice)[0].keys() == set("abc")
