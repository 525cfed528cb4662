"""Makes a variant of a model's folder whose weights are as sound, and answer otherwise.

The output matrices of two neighbouring layers' perceptrons change places.  Nothing is computed, so it works
in every precision; the model goes on in words, and no answer is what it was.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import ModelError
from harness.models.checksums import files_in
from harness.models.safetensors_file import Header, copy_exchanging, read_header

_MATRIX = re.compile(r"(.*\.layers\.)(\d+)(\.mlp\.down_proj\.\w+)")
_WEIGHTS = "*.safetensors"


def write_other_weights(model: Path, folder: Path) -> None:
    """Write the variant of ``model`` into ``folder``.

    Raises:
        ModelError: the model has no two layers whose matrices can change places.
    """
    chosen, pairs = _exchange(model)
    for name, path in files_in(model).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path == chosen:
            copy_exchanging(path, target, pairs)
        else:
            shutil.copyfile(path, target)


def _exchange(model: Path) -> tuple[Path, Mapping[str, str]]:
    """The file, and in it the tensors, of the two neighbouring layers nearest to the middle."""
    try:
        headers = {path: read_header(path)[0] for path in sorted(model.glob(_WEIGHTS))}
    except (OSError, ValueError) as error:
        raise _unsuitable(model, str(error)) from error
    layers = [layer for header in headers.values() for layer in _layers(header)]
    middle = (max(layers, default=0) - 1) / 2
    candidates = [
        (abs(layer - middle), path, layer)
        for path, header in headers.items()
        for layer in _layers(header)
        if _pairs(header, layer)
    ]
    if not candidates:
        raise _unsuitable(model, "no two neighbouring layers of equal shape lie in one .safetensors file")
    _, path, layer = min(candidates)
    return path, _pairs(headers[path], layer)


def _layers(header: Header) -> Iterator[int]:
    return (int(match[2]) for name in header if (match := _MATRIX.fullmatch(name)))


def _pairs(header: Header, layer: int) -> Mapping[str, str]:
    """Each tensor of a layer's matrix with that of the next layer; nothing unless all of them fit."""
    pairs = {
        name: f"{match[1]}{layer + 1}{match[3]}"
        for name in header
        if (match := _MATRIX.fullmatch(name)) and int(match[2]) == layer
    }
    fit = all(
        other in header and all(header[name][key] == header[other][key] for key in ("dtype", "shape"))
        for name, other in pairs.items()
    )
    return pairs if fit else {}


def _unsuitable(model: Path, reason: str) -> ModelError:
    return ModelError(
        f"no variant of the weights in {model} can be made: {reason}",
        remedy="use a Llama-like model stored as .safetensors, or leave the scenario out with -k",
    )
