"""Weights that arrive through files: which tensors of a folder come with which call."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.engine_plugin.weight_transfer import FileTransferEngine

pytestmark = [
    pytest.mark.cell,  # importing vLLM takes seconds
    pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning"),  # what that says of itself
]

NAMES = [f"model.layers.{layer}.{part}.weight" for layer in (0, 1) for part in ("a", "b", "c")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in two files."""
    tensors = {name: torch.full((2,), float(number)) for number, name in enumerate(NAMES)}
    save_file({name: tensors[name] for name in NAMES[::2]}, tmp_path / "one.safetensors")
    save_file({name: tensors[name] for name in NAMES[1::2]}, tmp_path / "two.safetensors")
    return tmp_path


class Receiver:
    """A model that remembers what it is told to load."""

    def __init__(self) -> None:
        self.loaded: dict[str, float] = {}

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Remember them."""
        self.loaded |= {name: float(tensor[0]) for name, tensor in weights}


@pytest.fixture
def receiver() -> Receiver:
    """A model."""
    return Receiver()


@pytest.fixture
def engine(receiver: Receiver) -> FileTransferEngine:
    """The engine, over the model."""
    from harness.engine_plugin.weight_transfer import FileTransferEngine

    config = SimpleNamespace(parallel_config=None, model_config=None)
    return FileTransferEngine(None, config, torch.device("cpu"), receiver)  # type: ignore[arg-type]


def test_every_tensor_of_every_file_arrives(
    engine: FileTransferEngine, receiver: Receiver, folder: Path
) -> None:
    """Without further words it is the whole folder."""
    engine.update_weights({"folder": str(folder)})
    assert receiver.loaded == {name: float(number) for number, name in enumerate(NAMES)}


def test_chunks_are_the_whole_together(engine: FileTransferEngine, receiver: Receiver, folder: Path) -> None:
    """Each tensor comes with exactly one of them."""
    for chunk in (1, 2, 3, 4):
        before = set(receiver.loaded)
        engine.update_weights({"folder": str(folder), "chunk": chunk, "chunks": 4})
        assert set(receiver.loaded) > before
    assert set(receiver.loaded) == set(NAMES)


def test_what_is_left_out_does_not_arrive(
    engine: FileTransferEngine, receiver: Receiver, folder: Path
) -> None:
    """By patterns over names."""
    engine.update_weights({"folder": str(folder), "leave_out": ["*.1.*", "*.a.weight"]})
    assert sorted(receiver.loaded) == NAMES[1:3]


def test_a_folder_without_weights_is_refused(
    engine: FileTransferEngine, receiver: Receiver, tmp_path: Path
) -> None:
    """So is a word that nobody knows."""
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors files"):
        engine.update_weights({"folder": str(tmp_path)})
    with pytest.raises(ValueError, match="Invalid update_info"):
        engine.update_weights({"folder": str(tmp_path), "names": "all"})
    assert not receiver.loaded


def test_it_is_found_by_its_name() -> None:
    """The plugin registers it, once, under the name that the flag gives."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    from harness.engine_plugin import compat
    from harness.engine_plugin.weight_transfer import FileTransferEngine

    registry = cast("dict[str, object]", WeightTransferEngineFactory._registry)
    known = dict(registry)
    try:
        compat.register_weight_transfer()
        found = registry["sleepwake"]
        assert callable(found)
        assert found() is FileTransferEngine
    finally:
        registry.clear()
        registry.update(known)
