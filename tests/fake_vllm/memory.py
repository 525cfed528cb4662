"""The worker's memory: what sleeping discards and waking restores (vllm/v1/executor/abstract.py)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from tests.fake_vllm.ballast import KV_CACHE, WEIGHTS, Ballast
from tests.fake_vllm.behaviours import Fault
from tests.fake_vllm.blocks import BlockPool
from tests.fake_vllm.model import Array, Weights, load_weights

_PARTS = frozenset({"weights", "kv_cache"})
_POISON = 100.0


class Memory:
    """Weights and KV blocks, each awake or asleep.

    ``discard`` says what discarded memory holds after waking: ``zero``, ``poison`` or ``stale``.
    """

    def __init__(
        self, *, model: str, pool: BlockPool, discard: str, faults: AbstractSet[Fault], has_ballast: bool
    ) -> None:
        self.weights: Weights = load_weights(model)
        self.sleeping: set[str] = set()
        sizes = {"weights": WEIGHTS, "kv_cache": KV_CACHE} if has_ballast else {}
        self._ballast = {part: Ballast(size) for part, size in sizes.items()}
        self._pool = pool
        self._model = self._loaded_from = model
        self._backup: Weights | None = None
        self._fill = {"zero": 0.0, "poison": _POISON, "stale": None}[discard]
        self._faults = faults
        self._loses_next_reload = False
        self.update_is_active = False

    def sleep(self, level: int) -> None:
        """Back the weights up (level 1 only) and discard everything, unless they sleep already."""
        if "weights" in self.sleeping:
            return
        self._backup = {name: tensor.copy() for name, tensor in self.weights.items()} if level == 1 else None
        self._discard(*self.weights.values(), self._pool.contents)
        self._discard_ballast(*_PARTS)
        self.sleeping |= _PARTS

    def release_kv_cache(self) -> None:
        """Discard the KV blocks alone."""
        self._discard(self._pool.contents)
        self._discard_ballast("kv_cache")
        self.sleeping.add("kv_cache")

    def wake_up(self, tags: Sequence[str] | None) -> None:
        """Bring parts back; nothing happens when a tag names a part that is awake."""
        waking = set(tags) if tags else set(self.sleeping)
        if not waking <= self.sleeping:
            return
        self.sleeping -= waking
        for part in waking & self._ballast.keys():
            self._ballast[part].load()
        if "weights" in waking:
            self._restore_weights()

    def reload_weights(self, path: str | None) -> None:
        """Load the weights again, from the last path where none is given; they are known by its name.

        Raises:
            FileNotFoundError: there is nothing at the path.
        """
        if path is not None:
            # Remembered before anything is loaded: after a failure it is the last path all the same.
            self._loaded_from = path
        if self._loaded_from != self._model and not Path(self._loaded_from).exists():
            raise FileNotFoundError(self._loaded_from)
        if self._loses_next_reload:
            self._loses_next_reload = False
            return
        for name, tensor in load_weights(Path(self._loaded_from).name).items():
            self.weights[name][...] = tensor

    def update_weights(self, folder: str, *, chunk: int, chunks: int, leave_out: Sequence[str]) -> None:
        """Have a part of the weights arrive that are known by the folder's name.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        if folder != self._model and not Path(folder).exists():
            raise FileNotFoundError(folder)
        weights = load_weights(Path(folder).name)
        names = sorted(weights)
        first, last = (len(names) * number // chunks for number in (chunk - 1, chunk))
        for name in names[first:last]:
            if not any(fnmatch(name, pattern) for pattern in leave_out):
                self.weights[name][...] = weights[name]

    def _restore_weights(self) -> None:
        if Fault.LOSE_WEIGHTS in self._faults:
            self._loses_next_reload = self._backup is None
            for tensor in self.weights.values():
                tensor[...] = 0
        elif self._backup is not None:
            for name, tensor in self._backup.items():
                self.weights[name][...] = tensor
        self._backup = None

    def _discard_ballast(self, *parts: str) -> None:
        for part in self._ballast.keys() & parts:
            self._ballast[part].discard()

    def _discard(self, *arrays: Array) -> None:
        if self._fill is None:
            return
        for array in arrays:
            array[...] = np.float32(self._fill)
