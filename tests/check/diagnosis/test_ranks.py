"""Which ranks are named, by the names of their parameters."""

from __future__ import annotations

import pytest

from harness.check.diagnosis.ranks import on_ranks

EVERY = [f"dp{dp}:pp0:pcp0:tp{tp}:{name}" for dp in (0, 1) for tp in (0, 1) for name in ("a", "b")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["dp0:pp0:pcp0:tp1:a", "dp0:pp0:pcp0:tp1:b"], ", all on rank dp0:tp1"),
        (["dp1:pp0:pcp0:tp0:a", "dp0:pp0:pcp0:tp1:b"], ", all on ranks dp0:tp1, dp1:tp0"),
        ([name for name in EVERY if name.endswith(":a")], ""),
        (EVERY, ""),
    ],
)
def test_ranks_are_named_by_what_tells_them_apart(names: list[str], said: str) -> None:
    """A dimension that all ranks share is left out; where every rank is affected none is named."""
    assert on_ranks(names, of=EVERY) == said


@pytest.mark.parametrize("of", [["a", "b"], ["dp0:tp0:a"], ["tp0:a", "b"], ["tp0:a", "dp0:tp1:b"]])
def test_where_there_are_no_ranks_to_tell_none_is_named(of: list[str]) -> None:
    """An engine of one rank, names without any, and names that are not of one kind."""
    assert on_ranks(of[:1], of=of) == ""
