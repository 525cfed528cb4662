"""Names the model a server loads: the small default one, a folder, or a Hugging Face id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from harness.errors import UsageError
from harness.models.cache import cache_directory
from harness.models.checksums import combined_checksum, files_in, sampled_checksums
from harness.models.default import HEADS as DEFAULT_HEADS
from harness.models.default import NAME as DEFAULT_MODEL
from harness.models.default import converted_model

__all__ = ["DEFAULT_MODEL", "Dtype", "Model", "provide_model"]

Dtype = Literal["auto", "bfloat16", "float16", "float32"]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that a server can load.

    Attributes:
        location: What vLLM's ``--model`` takes: an absolute folder, or a Hugging Face id.
        folder: The folder, for a container to mount; None for a Hugging Face id.
        served_name: The name under which requests ask for it.
        dtype: What vLLM's ``--dtype`` takes.  The precision of the files may be another.
        checksum: ``sha256:...`` over every byte; ``sha256-sampled:...`` over names, sizes and samples of
            the files of a folder that is not ours and may be large; None for a Hugging Face id.
        source: Where it comes from, for people.
        bytes_on_disk: Size of the folder's files; None for a Hugging Face id.
    """

    location: str
    folder: Path | None = None
    served_name: str
    dtype: Dtype
    checksum: str | None = None
    source: str
    bytes_on_disk: int | None = None


THE_SERVERS_OWN = Model(
    location="", served_name="", dtype="auto", source="whatever the attached server serves"
)
"""Stands for the model of a server that somebody else started."""


def provide_model(reference: str | None = None, *, dtype: Dtype, cache_dir: Path | None = None) -> Model:
    """Return the model that ``reference`` names, ready for vLLM to load; None names the default model.

    Raises:
        UsageError: ``reference`` is neither a usable folder nor a Hugging Face id.
        ModelError: The default model could not be provided.
    """
    if reference is None:
        return default_model(dtype=dtype, cache_dir=cache_dir or cache_directory())
    if names_folder(reference):
        return model_in_folder(Path(reference).expanduser().absolute(), dtype=dtype)
    return model_on_hub(reference, dtype=dtype)


def names_folder(reference: str) -> bool:
    """Tell a folder from a Hugging Face id, which is ``name`` or ``owner/name``; vLLM prefers folders too."""
    looks_like_path = reference.startswith(("/", ".", "~")) or reference.count("/") > 1
    return looks_like_path or (reference != "" and Path(reference).exists())


def may_read_pictures(reference: str | None) -> bool:
    """Whether the model that ``reference`` names may take pictures; known of folders and the default."""
    if reference is None:
        return False
    configuration = _configuration(reference)
    return configuration is None or "vision_config" in configuration


def tensor_parallel_sizes(reference: str | None) -> tuple[int, ...] | None:
    """Over how many ranks a model's attention heads can be spread; None where its files do not tell.

    vLLM gives each rank as many heads as any other, and at least one key-value head: where these are fewer
    than ranks, several ranks share one (vllm/config/model.py).
    """
    configuration = DEFAULT_HEADS if reference is None else _configuration(reference) or {}
    of_text = configuration.get("text_config")
    text: Mapping[str, JsonValue] = of_text if isinstance(of_text, dict) else configuration
    heads = text.get("num_attention_heads")
    shared = text.get("num_key_value_heads") or heads
    if not (isinstance(heads, int) and isinstance(shared, int)) or min(heads, shared) < 1:
        return None
    return tuple(
        size
        for size in range(1, heads + 1)
        if heads % size == 0 and (shared % size == 0 if size <= shared else size % shared == 0)
    )


def _configuration(reference: str) -> dict[str, JsonValue] | None:
    """What a model's folder says of it; None of a hub's, and where that cannot be read."""
    if not names_folder(reference):
        return None
    try:
        configuration = json.loads((Path(reference).expanduser() / "config.json").read_bytes())
    except (OSError, ValueError):
        return None  # what is wrong with the folder is told when it is used
    return configuration if isinstance(configuration, dict) else None


def default_model(*, dtype: Dtype, cache_dir: Path) -> Model:
    """Return the default model, converted by this call where the cache holds no sound copy."""
    converted = converted_model(cache_dir)
    checksum = f"sha256:{combined_checksum(converted.checksums)}"
    return _in_folder(converted.folder, dtype=dtype, checksum=checksum, source=converted.source)


def model_in_folder(folder: Path, *, dtype: Dtype) -> Model:
    """Return the model in a folder of the user's."""
    try:
        json.loads((folder / "config.json").read_bytes())
        checksum = f"sha256-sampled:{combined_checksum(sampled_checksums(folder))}"
        return _in_folder(folder, dtype=dtype, checksum=checksum, source=f"folder {folder}")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} is not a model folder: {error}",
            remedy="give a folder in Hugging Face form: config.json, tokenizer and weights",
        ) from error


def _in_folder(folder: Path, *, dtype: Dtype, checksum: str, source: str) -> Model:
    return Model(
        location=str(folder),
        folder=folder,
        served_name=folder.name,
        dtype=dtype,
        checksum=checksum,
        source=source,
        bytes_on_disk=sum(path.stat().st_size for path in files_in(folder).values()),
    )


def model_on_hub(reference: str, *, dtype: Dtype) -> Model:
    """Return the model of a Hugging Face id; the server downloads it, or finds it in its own cache."""
    if not HUB_ID.fullmatch(reference):
        raise UsageError(
            f"{reference!r} is neither a model folder nor a Hugging Face id",
            remedy="give the path of a folder that holds a config.json, or an id such as Qwen/Qwen3-0.6B",
        )
    return Model(
        location=reference, served_name=reference, dtype=dtype, source=f"Hugging Face id {reference}"
    )
