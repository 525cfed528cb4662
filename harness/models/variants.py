"""What a script may load into a running server besides the model it was started with.

Two adapters and a variant of the weights, made once from the model's own folder
(:mod:`harness.models.adapters`, :mod:`harness.models.other_weights`) into the cache directory
(:mod:`harness.models.cache`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from harness.models.adapters import shapes_of, write_adapter
from harness.models.cache import cache_directory, kept
from harness.models.model import Model
from harness.models.other_weights import write_other_weights

AdapterName: TypeAlias = Literal["first", "second"]

ADAPTERS: tuple[AdapterName, ...] = ("first", "second")

RECIPE = 1
"""Counts up when something else is made: older folders are then made again."""


@dataclass(frozen=True, kw_only=True)
class Variants:
    """Paths as the server under test sees them: a container has them under the same names.

    Attributes:
        own_weights: What the server was started with: a folder, or a Hugging Face id.
        other_weights: A folder like the model's whose weights answer otherwise; None where there is none.
        adapters: The folder of each adapter; empty where there are none.
        exchanged: A folder of the cell's own: in it every name has one path at which adapters are exchanged.
    """

    own_weights: str
    other_weights: Path | None = None
    adapters: Mapping[AdapterName, Path]
    exchanged: Path

    @property
    def missing_weights(self) -> Path:
        """A path at which there is nothing."""
        return self.exchanged / "no-weights-here"

    def adapter(self, adapter: AdapterName, *, at_path_of: str | None = None) -> Path:
        """Where to load ``adapter`` from: its own folder, or the one of a name, whose files it replaces.

        Raises:
            OSError: the files cannot be written.
        """
        folder = self.adapters[adapter]
        if at_path_of is None:
            return folder
        place = self.exchanged / at_path_of
        place.mkdir(parents=True, exist_ok=True)
        for source in folder.iterdir():
            # Renamed into place: an engine that has mapped the old file keeps the old file.
            unfinished = place / f".{source.name}"
            shutil.copyfile(source, unfinished)
            unfinished.replace(place / source.name)
        return place


def variants_of(model: Model, *, exchanged: Path, cache_dir: Path | None = None) -> Variants:
    """Say where the variants of ``model`` are; :func:`provide_variants` sees to it that they are there.

    A model that is no folder has none; ``exchanged`` is the cell's own folder for adapters.
    """
    folder = _folder(model, cache_dir)
    return Variants(
        own_weights=model.location,
        other_weights=folder / "other-weights" if folder else None,
        adapters={name: folder / f"{name}-adapter" for name in ADAPTERS} if folder else {},
        exchanged=exchanged,
    )


def provide_variants(
    model: Model, *, adapters: bool, other_weights: bool, cache_dir: Path | None = None
) -> None:
    """Make the variants of ``model`` that are asked for, where there are no sound ones.

    Raises:
        ModelError: they cannot be made of this model, or not be kept.
    """
    folder = _folder(model, cache_dir)
    source = model.folder
    if folder is None or source is None:
        return
    if adapters:
        shapes = shapes_of(source / "config.json")
        for seed, name in enumerate(ADAPTERS, start=1):
            _make(folder / f"{name}-adapter", partial(write_adapter, shapes=shapes, seed=seed))
    if other_weights:
        _make(folder / "other-weights", partial(write_other_weights, source))


def _folder(model: Model, cache_dir: Path | None) -> Path | None:
    """One for each model: two that have the same name have other bytes."""
    if model.folder is None or model.checksum is None:
        return None
    digest = model.checksum.rpartition(":")[2][:12]
    return (cache_dir or cache_directory()) / "models" / f"{model.served_name}.variants-{digest}"


def _make(folder: Path, write: Callable[[Path], None]) -> None:
    def make(empty: Path, _lock: int) -> str:
        write(empty)
        return "the model's own folder"

    kept(folder, make, recipe=RECIPE)
