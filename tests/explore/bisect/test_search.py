"""The search for the release that changed: right for every place of the change, in few trials."""

from __future__ import annotations

from math import ceil, log2
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.explore.bisect.run import command, release_key
from harness.explore.bisect.search import Bisection, Outcome, Trial, conclusion
from harness.runs.options import RunOptions

VERSIONS = tuple(f"0.{minor}.0" for minor in range(40))


def searched(
    count: int, change: int, *, older: Literal["good", "bad"] = "bad", broken: frozenset[int] = frozenset()
) -> Bisection:
    """Search ``count`` releases that change at index ``change``; those in ``broken`` cannot be tried."""
    newer: Outcome = "good" if older == "bad" else "bad"
    search = Bisection(scenario="s", versions=VERSIONS[:count], older=older)
    while (version := search.next_version()) is not None:
        index = VERSIONS.index(version)
        kind: Outcome = older if index < change else newer
        outcome: Outcome = "skip" if index in broken else kind
        search = search.seen(Trial(version=version, outcome=outcome, reason="", run=""))
    return search


places = st.integers(2, 40).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count - 1)))


@given(places, st.sampled_from(["good", "bad"]))
def test_the_change_is_found_wherever_it_is(place: tuple[int, int], older: Literal["good", "bad"]) -> None:
    """The deciding neighbours are adjacent and lie on both sides of the change."""
    count, change = place
    search = searched(count, change, older=older)
    assert search.contradiction is None
    assert search.neighbours == (VERSIONS[change - 1], VERSIONS[change])


@given(places)
def test_the_deciding_neighbours_are_seen_twice(place: tuple[int, int]) -> None:
    """One run may be luck: both sides of the change are confirmed."""
    search = searched(*place)
    assert all(len(search.outcomes(version)) == 2 for version in search.neighbours)


@given(places)
def test_few_trials_are_needed(place: tuple[int, int]) -> None:
    """Halving, plus at most two trials each for the neighbours."""
    count, change = place
    assert len(searched(count, change).trials) <= ceil(log2(count)) + 4


@given(places, st.frozensets(st.integers(0, 39)))
def test_releases_that_cannot_be_tried_are_named(place: tuple[int, int], broken: frozenset[int]) -> None:
    """The change lies between the neighbours, and whatever lies between them was tried and skipped."""
    count, change = place
    search = searched(count, change, broken=broken)
    last, first = (VERSIONS.index(version) for version in search.neighbours)
    assert last < change <= first
    assert {VERSIONS.index(version) for version in search.skipped} <= broken
    assert all(version in conclusion(search) for version in search.skipped)


def test_the_conclusion_names_the_first_good_release() -> None:
    """The founding bug's own answer."""
    search = Bisection(scenario="s", versions=("0.9.2", "0.10.0", "0.10.1", "0.10.2"), older="bad")
    for version, outcome in (("0.10.1", "good"), ("0.10.0", "bad"), ("0.10.0", "bad"), ("0.10.1", "good")):
        search = search.seen(
            Trial.model_validate({"version": version, "outcome": outcome, "reason": "", "run": ""})
        )
    assert search.next_version() is None
    assert conclusion(search) == "first good release: 0.10.1 (the last bad one is 0.10.0)"


@pytest.mark.parametrize(
    ("outcomes", "says"),
    [
        ([("0.1.0", "good"), ("0.1.0", "bad")], "good once and bad once"),
        ([("0.0.0", "good")], "was given as bad and is good"),
        ([("0.1.0", "good"), ("0.2.0", "bad")], "changes more than once"),
    ],
)
def test_trials_that_do_not_fit_end_the_search(outcomes: list[tuple[str, str]], says: str) -> None:
    """What contradicts a single change is said, not smoothed over."""
    search = Bisection(scenario="s", versions=VERSIONS[:4], older="bad")
    for version, outcome in outcomes:
        search = search.seen(
            Trial.model_validate({"version": version, "outcome": outcome, "reason": "", "run": ""})
        )
    assert search.next_version() is None
    assert says in conclusion(search)


def test_releases_sort_by_age() -> None:
    """0.9 is older than 0.10, and a fourth number or a post release is newer than its release."""
    assert sorted(["0.10.1.1", "0.10.1", "0.9.2", "0.8.5.post1", "0.8.5", "v0.20"], key=release_key) == [
        "0.8.5",
        "0.8.5.post1",
        "0.9.2",
        "0.10.1",
        "0.10.1.1",
        "v0.20",
    ]


def test_what_is_no_release_is_refused() -> None:
    """`latest` has no place in an order."""
    with pytest.raises(UsageError, match="not a release"):
        release_key("latest")


def test_the_command_to_try_a_release_again_is_the_searchs_own() -> None:
    """Arms, model and flags decide the verdict as well; a path stays one word."""
    options = RunOptions(
        paths=(Path("my scenarios/a.yaml"),), arms=("on",), model="org/m", vllm_args=("--seed=3",)
    )
    assert command(options, "0.10.1") == (
        "sleepwake run 'my scenarios/a.yaml' --arm on --runtime docker --vllm 0.10.1 "
        "--model org/m --vllm-arg=--seed=3"
    )
