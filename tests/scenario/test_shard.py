"""Dividing a matrix of cells between machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.scenario.cells import Cell
from harness.scenario.schema import Arm, Scenario
from harness.scenario.shard import Shard

SCENARIO = Scenario.model_validate(
    {
        "name": "small",
        "why": "because",
        "arms": {"on": {}},
        "prompts": {"corpus": "words"},
        "script": [{"probe": "baseline"}],
    }
)


def cell(name: str) -> Cell:
    """A cell with that arm."""
    return Cell(
        scenario=SCENARIO, scenario_path=Path("s.yaml"), arm_name=name, arm=Arm(), prompts=(), held_out=()
    )


matrices = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=24, unique=True).map(
    lambda names: [cell(name) for name in names]
)


@given(matrices, st.integers(1, 8))
def test_every_cell_is_in_exactly_one_shard(cells: list[Cell], of: int) -> None:
    """The shards are the matrix: none is lost or run twice, they differ by one, and order is kept."""
    shards = [Shard(index=i, of=min(of, len(cells))).select(cells) for i in range(1, min(of, len(cells)) + 1)]
    assert sorted(each.id for shard in shards for each in shard) == sorted(each.id for each in cells)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(shard == [each for each in cells if each in shard] for shard in shards)


@given(matrices, st.randoms(use_true_random=False))
def test_a_cell_stays_where_it_is(cells: list[Cell], random: object) -> None:
    """The order in which the files were found makes no difference."""
    first = {each.id for each in Shard(index=1, of=min(2, len(cells))).select(cells)}
    random.shuffle(cells)  # type: ignore[attr-defined]  # Hypothesis' own random.Random
    assert {each.id for each in Shard(index=1, of=min(2, len(cells))).select(cells)} == first


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "1/3/3", "-1/3", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    """Before anything starts, and with an example."""
    with pytest.raises(UsageError, match="write 1/3"):
        Shard.parse(text)


def test_more_shards_than_cells_are_refused() -> None:
    """A machine without work is a mistake in the matrix of machines."""
    cells = [cell("a"), cell("b")]
    with pytest.raises(UsageError, match="at most 2 shards"):
        [Shard(index=i, of=3).select(cells) for i in (1, 2, 3)]


def test_a_shard_is_written_as_it_is_read() -> None:
    """The words of ``--shard``."""
    assert str(Shard.parse("2/3")) == "2/3"
