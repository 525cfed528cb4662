"""One part of a matrix of cells, for one of several machines that know nothing of each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.scenario.cells import Cell

_WRITTEN = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part ``index`` of ``of``, counted from 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/3``.

        Raises:
            UsageError: it is not a shard.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(
                f"--shard: {text!r} is not a shard", remedy="write 1/3, 2/3 and 3/3 for three machines"
            )
        return cls(index=int(match[1]), of=int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def select(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells of this shard, in their order.

        Cells are dealt out in the order of their names' checksums: the shards differ by one cell at
        most, and which cell goes where depends neither on the order of the files nor on the machine.

        Raises:
            UsageError: there is none.
        """
        dealt = sorted(cells, key=lambda cell: hashlib.sha256(cell.id.encode()).hexdigest())
        mine = {cell.id for cell in dealt[self.index - 1 :: self.of]}
        if not mine:
            raise UsageError(
                f"--shard: {self} has no cell, there are {len(cells)}",
                remedy=f"use at most {len(cells)} shards",
            )
        return [cell for cell in cells if cell.id in mine]
