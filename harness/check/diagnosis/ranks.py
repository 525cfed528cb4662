"""Which ranks of a parallel engine something is about, by the names of what they hold.

``/weight_checker`` calls a parameter ``dp0:pp0:pcp0:tp1:model.norm.weight``: the rank, dimension by
dimension, before its name (vllm/v1/worker/gpu_worker.py of 0.32).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_RANK = re.compile(r"(?:[a-z]+\d+:)+")


def on_ranks(names: Iterable[str], *, of: Collection[str]) -> str:
    """Say on which ranks ``names`` are, of those that hold ``of``; empty where that is all of them, or one.

    >>> on_ranks(["dp0:tp1:w"], of=["dp0:tp0:w", "dp0:tp1:w"])
    ', all on rank tp1'
    >>> on_ranks(["dp0:tp0:w"], of=["dp0:tp0:w"])
    ''
    """
    every, affected = _ranks(of), _ranks(names)
    if len(every) < 2 or affected == every:  # noqa: PLR2004 - a rank among others
        return ""
    differing = [place for place in range(len(next(iter(every)))) if len({rank[place] for rank in every}) > 1]
    told = sorted(":".join(rank[place] for place in differing) for rank in affected)
    return f", all on rank{'s' if len(told) > 1 else ''} {', '.join(told)}"


def _ranks(names: Iterable[str]) -> frozenset[tuple[str, ...]]:
    found = (_RANK.match(name) for name in names)
    ranks = frozenset(tuple(match[0].rstrip(":").split(":")) for match in found if match)
    return ranks if len({len(rank) for rank in ranks}) == 1 else frozenset()
