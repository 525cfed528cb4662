"""What a script may load into a running server besides the model it was started with.

Two adapters and a variant of the weights, made once from the model's own folder
(:mod:`harness.models.adapters`, :mod:`harness.models.other_weights`) into the cache directory, as safely as
the default model: a lock admits one maker at a time, a folder appears under its name in one step, complete,
and whoever uses it has it checked against its checksums first.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from harness.errors import ModelError
from harness.models.adapters import shapes_of, write_adapter
from harness.models.checksums import full_checksums
from harness.models.default import MANIFEST, cache_directory, exclusive
from harness.models.model import Model
from harness.models.other_weights import write_other_weights

AdapterName: TypeAlias = Literal["first", "second"]

ADAPTERS: tuple[AdapterName, ...] = ("first", "second")

RECIPE = 1
"""Counts up when something else is made: older folders are then made again."""

logger = logging.getLogger(__name__)


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

    Args:
        model: What the server is started with; one that is no folder has no variants.
        exchanged: The cell's own folder for adapters that are exchanged.
        cache_dir: Where variants are kept; that of the default model when None.
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
    if _is_sound(folder):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(folder.with_name(f"{folder.name}.lock")):
            if not _is_sound(folder):
                _make_anew(folder, write)
    except OSError as error:
        raise ModelError(
            f"variants of the model cannot be kept in {folder.parent}: {error}",
            remedy="make room there, or set SLEEPWAKE_CACHE to a writable directory with more room",
        ) from error


def _is_sound(folder: Path) -> bool:
    """Whether the folder's files are exactly those it was finished with."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = full_checksums(folder)
        found.pop(MANIFEST)
        return bool(manifest["recipe"] == RECIPE and manifest["checksums"] == found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.debug("nothing sound in %s: %r", folder, error)
        return False


def _make_anew(folder: Path, write: Callable[[Path], None]) -> None:
    """Write beside ``folder`` and rename; whoever is here holds the lock, so leftovers are nobody's."""
    for leftover in folder.parent.glob(f"{folder.name}.unfinished-*"):
        shutil.rmtree(leftover)
    logger.info("making %s, once", folder)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.unfinished-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)  # the user of a container reads it too
        write(unfinished)
        # The model's own manifest is of other files.
        (unfinished / MANIFEST).unlink(missing_ok=True)
        manifest = {"recipe": RECIPE, "checksums": full_checksums(unfinished)}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
