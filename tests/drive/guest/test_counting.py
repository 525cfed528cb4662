"""What a server counted between two looks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.drive.guest.counting import counted_between
from harness.vllm_api.metrics import MetricsSnapshot, parse_metrics

NOTHING = parse_metrics("")
SEEN = replace(NOTHING, requests_ended=3, requests_aborted=1)


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, SEEN), (SEEN, None), (None, None), (NOTHING, SEEN), (SEEN, NOTHING)],
    ids=["nothing before", "nothing after", "nothing at all", "not counted before", "not counted after"],
)
def test_a_look_that_told_nothing_leaves_the_count_open(
    before: MetricsSnapshot | None, after: MetricsSnapshot | None
) -> None:
    """A server whose metrics could not be read once ends no run."""
    counted = counted_between(before, after, own=5, t=1.0)
    assert (counted.ended, counted.aborted, counted.own) == (None, None, 5)


def test_what_was_counted_is_the_difference() -> None:
    """Of both counters."""
    later = replace(SEEN, requests_ended=10, requests_aborted=1)
    counted = counted_between(SEEN, later, own=5, t=1.0, under_way=2)
    assert (counted.ended, counted.aborted, counted.under_way) == (7, 0, 2)
