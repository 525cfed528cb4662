"""Which model a reference names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.models.checksums import SAMPLE_BYTES
from harness.models.model import provide_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in Hugging Face form, with more weights than are sampled."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    (folder / "model.safetensors").write_bytes(bytes(3 * SAMPLE_BYTES))
    return folder


@pytest.mark.parametrize("reference", ["Qwen/Qwen3-0.6B", "gpt2", "a_b/c.d-e"])
def test_hugging_face_id_is_left_to_the_server(reference: str) -> None:
    """An id is passed on as it is; nothing is known about its files."""
    model = provide_model(reference, dtype="float32")
    assert (model.location, model.served_name) == (reference, reference)
    assert (model.folder, model.checksum, model.bytes_on_disk) == (None, None, None)


def test_folder_is_used_in_place(folder: Path) -> None:
    """A folder is named by its absolute path and served under its own name."""
    model = provide_model(str(folder), dtype="bfloat16")
    assert (model.location, model.folder, model.served_name) == (str(folder), folder, "my-model")
    assert model.dtype == "bfloat16"
    assert model.bytes_on_disk == 3 * SAMPLE_BYTES + len('{"model_type": "llama"}\n')


def test_folder_may_be_relative_to_here_or_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain name that exists, a dotted path and a tilde all mean the folder, as they do in a shell."""
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for reference in ("my-model", "./my-model", "~/my-model", "my-model/"):
        assert provide_model(reference, dtype="auto").location == str(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_checksum_tells_models_apart(folder: Path, name: str) -> None:
    """Another configuration, or other weights of the same size, is another model."""
    before = provide_model(str(folder), dtype="auto").checksum
    assert provide_model(str(folder), dtype="auto").checksum == before
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b" ")
    assert provide_model(str(folder), dtype="auto").checksum != before


@pytest.mark.parametrize("reference", ["/no/such/model", "./nowhere", "~/nowhere", "a/b/c"])
def test_missing_folder_is_a_usage_error(reference: str) -> None:
    """A path that leads nowhere is not mistaken for a Hugging Face id."""
    with pytest.raises(UsageError, match="is not a model folder") as caught:
        provide_model(reference, dtype="auto")
    assert "config.json" in caught.value.remedy


@pytest.mark.parametrize("reference", ["", " ", "owner/", "two words", "owner/name?", "ümlaut/model"])
def test_nonsense_is_a_usage_error(reference: str) -> None:
    """What is neither path nor id is refused before anything starts."""
    with pytest.raises(UsageError, match="neither a model folder nor a Hugging Face id"):
        provide_model(reference, dtype="auto")


def test_folder_without_configuration_is_a_usage_error(folder: Path) -> None:
    """Weights alone are not a model vLLM can load."""
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"config\.json"):
        provide_model(str(folder), dtype="auto")


def test_folder_with_damaged_configuration_is_a_usage_error(folder: Path) -> None:
    """A truncated download is told before a server is started on it."""
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(UsageError, match="is not a model folder"):
        provide_model(str(folder), dtype="auto")


def test_file_is_not_a_model(folder: Path) -> None:
    """A single weights file is refused: vLLM wants the folder around it."""
    with pytest.raises(UsageError, match="is not a model folder"):
        provide_model(str(folder / "model.safetensors"), dtype="auto")


def test_import_is_cheap() -> None:
    """Naming a model loads no tensor library into the harness."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, harness.models.model; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert {"torch", "vllm", "transformers", "gguf", "numpy"}.isdisjoint(loaded)
