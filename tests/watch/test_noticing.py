"""What is noticed between two looks."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import pairwise
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.watch.looking import Look
from harness.watch.noticing import NOTHING, Happening, notice, remembering

AWAKE = Look(started=1.0, gauge="awake", is_sleeping=False, is_paused=False, tokens=5)
ASLEEP = replace(AWAKE, gauge="weights_offloaded", is_sleeping=True, is_paused=True)

ACTIONS = st.lists(st.sampled_from(["sleep", "wake", "look", "pause", "resume"]), max_size=40)


def looks(actions: list[str], *, counts: bool) -> tuple[list[Look], int]:
    """What is seen of an engine that is treated so, and how often it was woken."""
    sleeping = paused = False
    sleeps = wake_ups = 0
    seen = [AWAKE]
    for action in [*actions, "look"]:
        if action == "look":
            counted = {"sleeps": sleeps, "wake_ups": wake_ups} if counts and sleeps + wake_ups else {}
            gauge = "weights_offloaded" if sleeping else "awake"
            state = {"is_sleeping": sleeping, "is_paused": sleeping or paused}
            seen.append(replace(AWAKE, gauge=gauge, **state, **counted))  # type: ignore[arg-type]
        elif action == "sleep":
            sleeping, sleeps = True, sleeps + 1
        elif action == "wake":
            sleeping, paused, wake_ups = False, False, wake_ups + 1
        else:
            paused = action == "pause"
    return seen, wake_ups


def noticed(seen: list[Look]) -> Happening:
    """All that happened between the first look and the last."""
    return reduce(add, (notice(before, now) for before, now in pairwise(seen)), NOTHING)


@given(ACTIONS)
def test_what_is_counted_is_never_missed(actions: list[str]) -> None:
    """However the looks fall between the calls, every wake-up is noticed once."""
    seen, wake_ups = looks(actions, counts=True)
    happened = noticed(seen)
    assert happened.wake_ups == wake_ups
    assert not happened.restarted


@given(ACTIONS)
def test_what_is_seen_asleep_and_then_awake_is_noticed(actions: list[str]) -> None:
    """Where nothing is counted, an engine that is seen awake after a rest was woken, or resumed, once."""
    seen, _ = looks(actions, counts=False)
    woken = sum(before.rests and not now.rests for before, now in pairwise(seen))
    happened = [notice(before, now) for before, now in pairwise(seen)]
    assert sum(each.wake_ups + each.resumed for each in happened) == woken


@given(ACTIONS)
def test_an_engine_that_goes_on_after_any_rest_is_never_passed_over(actions: list[str]) -> None:
    """Whoever saw it rest, and sees it awake, has noticed something."""
    seen, _ = looks(actions, counts=True)
    for before, now in pairwise(seen):
        if before.rests and not now.rests:
            assert notice(before, now)


@pytest.mark.parametrize(
    "now",
    [
        replace(AWAKE, started=2.0, wake_ups=7, sleeps=7),
        replace(AWAKE, wake_ups=2, sleeps=7),
        replace(AWAKE, wake_ups=5, sleeps=None),
        replace(AWAKE, wake_ups=5, sleeps=5, tokens=0),
    ],
    ids=["another start", "wake-ups fell", "sleeps are gone", "tokens fell"],
)
def test_a_process_that_counts_from_the_beginning_is_another_one(now: Look) -> None:
    """A restart is noticed by the start time or by any count that fell."""
    happened = notice(replace(AWAKE, wake_ups=5, sleeps=5), now)
    assert happened.restarted
    assert happened.wake_ups == (now.wake_ups or 0)


def test_a_pause_that_ends_is_no_wake_up() -> None:
    """It is checked all the same: whoever pauses an engine may have changed it."""
    paused = replace(AWAKE, is_sleeping=True, is_paused=True)
    assert notice(paused, AWAKE) == Happening(resumed=True)


def test_new_weights_are_those_that_the_server_names() -> None:
    """A version that was never told before is no update, and one that is not told now is the last one."""
    named = replace(AWAKE, weight_version="2")
    assert notice(replace(AWAKE, weight_version="1"), named) == Happening(weights="2")
    assert notice(AWAKE, named) == NOTHING
    assert notice(named, remembering(named, AWAKE)) == NOTHING


def test_adapters_come_and_go() -> None:
    """Those that came and those that went are told apart."""
    before, now = replace(AWAKE, adapters=frozenset("ab")), replace(AWAKE, adapters=frozenset("bc"))
    assert notice(before, now) == Happening(adapters_added=frozenset("c"), adapters_removed=frozenset("a"))


def test_the_weightiest_names_the_check() -> None:
    """Everything that happened before one check is in its history, in this order."""
    happened = notice(ASLEEP, replace(AWAKE, wake_ups=2)) + Happening(restarted=True)
    assert happened.kind == "restart"
    assert happened.actions == {"seen_restart": {}, "seen_wake_up": {"times": 2}}
    assert happened.words == "restart, 2 wake-up calls"
