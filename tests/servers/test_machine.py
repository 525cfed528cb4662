"""What the machine has computed so far, and for whom."""

from __future__ import annotations

import pytest

from harness.servers.machine import machine_times, throttled_seconds
from tests.servers.test_processes import SLEEPS, WORKS, python


def test_what_a_process_computes_is_the_engines_and_part_of_the_whole() -> None:
    """As soon as it has been given a core for a while, both have grown by as much at least."""
    with python(WORKS) as process:
        before = machine_times([process.pid])
        assert before is not None
        after = before
        while after.engine_seconds < before.engine_seconds + 0.1:
            seen = machine_times([process.pid])
            assert seen is not None
            after = seen
    assert after.cores >= 1
    assert after.busy_seconds > before.busy_seconds
    assert after.own_seconds >= before.own_seconds


def test_without_a_process_of_the_engine_nobody_knows_what_others_did() -> None:
    """One of two is enough."""
    with python(SLEEPS) as process:
        assert machine_times([process.pid, 2**22]) is not None
    assert machine_times([process.pid]) is None


@pytest.mark.parametrize(
    ("statistics", "seconds"),
    [
        ("usage_usec 7\nnr_throttled 2\nthrottled_usec 1500000\n", 1.5),
        ("usage_usec 7\nuser_usec 5\n", None),
        ("", None),
    ],
)
def test_a_control_group_says_for_how_long_it_was_held_back(statistics: str, seconds: float | None) -> None:
    """The root of all groups, and a machine without any, do not."""
    assert throttled_seconds(statistics) == seconds
