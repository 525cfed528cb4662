"""Log-probabilities of a token sequence as dense, read-only arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
IdArray: TypeAlias = NDArray[np.int32]

NO_TOKEN = -1
"""Fills ``top_ids`` where a position has fewer candidates than asked for; its log-probability is ``-inf``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogprobTable:
    """One row a token: the token's own log-probability and the ``k`` best candidates at its position."""

    chosen: FloatArray
    top_ids: IdArray
    top_logprobs: FloatArray

    @classmethod
    def of(cls, chosen: Sequence[float], candidates: Sequence[Mapping[int, float]], k: int) -> LogprobTable:
        """Build a table from one mapping of token id to log-probability a position.

        Candidates are ordered by descending log-probability, equal ones by ascending id, and cut at ``k``:
        servers add the chosen token to the ``k`` best when it is not among them.
        """
        top_ids = np.full((len(candidates), k), NO_TOKEN, dtype=np.int32)
        top_logprobs = np.full((len(candidates), k), -np.inf, dtype=np.float32)
        for row, position in enumerate(candidates):
            best = sorted(position.items(), key=lambda item: (-item[1], item[0]))[:k]
            top_ids[row, : len(best)] = [token for token, _ in best]
            top_logprobs[row, : len(best)] = [logprob for _, logprob in best]
        table = cls(chosen=np.array(chosen, dtype=np.float32), top_ids=top_ids, top_logprobs=top_logprobs)
        for array in (table.chosen, table.top_ids, table.top_logprobs):
            array.setflags(write=False)
        return table
