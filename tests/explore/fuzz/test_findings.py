"""How a failed sequence is named, and how a finding is known again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.check.result import Cause, CellResult, Finding, Strength, Verdict
from harness.explore.fuzz.engine import Carried
from harness.explore.fuzz.findings import (
    DIED,
    HANGS,
    LOST_REQUESTS,
    WRONG_ANSWERS,
    WRONG_STATE,
    Failure,
    KnownFindings,
    failure_in,
    gists,
    signature,
)
from harness.explore.fuzz.moves import LEGAL_MOVES, Move
from harness.explore.fuzz.search import Budget, Search, Steps
from harness.explore.fuzz.sequences import carried_out
from tests.trying import tries

drawn = st.lists(st.sampled_from(LEGAL_MOVES), min_size=1, max_size=10).filter(carried_out)
FAILURE = Failure(kind=WRONG_ANSWERS, cause="stale prefix cache")


def result(
    verdict: Verdict | None,
    *findings: tuple[str, str],
    cause: Cause | None = Cause.SCHEDULER,
    strength: Strength = Strength.PROOF,
    error: str | None = None,
) -> CellResult:
    """A judged sequence; each finding is a checker and what it says."""
    return CellResult(
        cell="c",
        scenario="s",
        arm="a",
        verdict=verdict,
        cause=cause,
        reason="",
        error=error,
        findings=tuple(Finding(checker=name, message=says, strength=strength) for name, says in findings),
    )


@pytest.mark.parametrize(
    ("judged", "kind"),
    [
        (result(None, error="ServerDiedError"), DIED),
        (result(Verdict.CORRUPT, ("protocol", "p0: no answer within 20 s")), HANGS),
        (result(Verdict.DEGRADED, ("state", "/is_sleeping says true")), WRONG_STATE),
        (result(Verdict.CORRUPT, ("conservation", "lost")), LOST_REQUESTS),
        (result(Verdict.CORRUPT, ("conservation", "lost"), ("divergence", "differs")), WRONG_ANSWERS),
        (result(Verdict.CORRUPT, ("divergence", "differs"), cause=None), WRONG_ANSWERS),
    ],
)
def test_a_failure_is_of_the_kind_that_its_proofs_show(judged: CellResult, kind: str) -> None:
    """Two failures are the same only if kind and cause are."""
    failure = failure_in(judged)
    assert failure is not None
    assert failure.kind == kind


RACED = (
    "concurrently sleep and wake up: no order of the overlapping calls explains what is seen: "
    "/is_paused says false, expected true, as if POST /wake_up, which answered 200, had done nothing"
)


@pytest.mark.parametrize(
    ("says", "invariant"),
    [
        (RACED, "/is_paused says false, expected true"),
        (
            "load second adapter x: /v1/models does not list 'x', expected it to be loaded",
            "/v1/models does not list NAME, expected it to be loaded",
        ),
        ("sleep level 1: POST /sleep: no answer in 60 s", "POST /sleep: no answer in N s"),
    ],
)
def test_a_wrong_state_is_known_by_what_must_hold(says: str, invariant: str) -> None:
    """Steps, names and numbers do not tell one from another."""
    failure = failure_in(result(Verdict.DEGRADED, ("state", says)))
    assert failure is not None
    assert failure.invariant == invariant


@pytest.mark.parametrize(
    "judged",
    [
        result(Verdict.CLEAN),
        result(Verdict.INCONCLUSIVE, ("divergence", "differs")),
        result(None, error="ServerBootError"),
        result(Verdict.DEGRADED, ("memory", "leaks"), cause=Cause.MEMORY),
        result(Verdict.DEGRADED, ("speed", "slower"), cause=Cause.SPEED),
    ],
)
def test_what_cannot_tell_is_no_failure(judged: CellResult) -> None:
    """Doubt, a machine in the way, and what too few answers are asked to judge by."""
    assert failure_in(judged) is None


@tries(40)
@given(drawn)
def test_a_finding_is_known_again_in_its_own_calls(moves: list[Move]) -> None:
    """Another failure after the same calls is another finding, and so is one after none of them."""
    steps = carried_out(moves)
    its = signature(FAILURE, steps)
    assert its.explains(FAILURE, steps)
    assert not its.explains(Failure(kind=DIED, cause=FAILURE.cause), steps)
    assert not its.is_in(())


@tries(20)
@given(st.lists(drawn, min_size=1, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_what_is_kept_is_known_to_the_next_search(found: list[list[Move]], kept: list[bool]) -> None:
    """What was only remembered ends with its search."""
    with tempfile.TemporaryDirectory() as folder:
        signatures = [signature(FAILURE, carried_out(moves)) for moves in found]
        path = Path(folder) / "known.json"
        known = KnownFindings(path)
        for its, lasts in zip(signatures, kept, strict=False):
            known.add(its)
            if lasts:
                known.keep(its)
        assert list(known) == signatures
        again = [its for its, lasts in zip(signatures, kept, strict=False) if lasts]
        assert list(KnownFindings(path)) == again


@tries(40)
@given(drawn, st.data())
def test_shrinking_keeps_what_fails_and_leaves_nothing_out_that_could_go(
    moves: list[Move], data: st.DataObject
) -> None:
    """However long the list: in the end no single move can be left out."""
    made = gists(carried_out(moves))
    places = data.draw(st.sets(st.integers(0, len(made) - 1), min_size=1, max_size=3))
    wanted = [made[place] for place in sorted(places)]

    def fails(steps: Steps) -> bool:
        left = iter(gists(steps))
        return all(call in left for call in wanted)

    def try_sequence(steps: Steps, _: int) -> Carried:
        judged = (
            result(Verdict.CORRUPT, ("divergence", "differs"), cause=Cause.STALE_PREFIX_CACHE)
            if fails(steps)
            else result(Verdict.CLEAN, cause=None)
        )
        return Carried(steps=steps, result=judged, seconds=0, directory=Path("/nowhere"))

    tried: list[object] = []
    search = Search(
        try_sequence=try_sequence,
        moves=LEGAL_MOVES,
        known=KnownFindings(Path("/nowhere/known.json")),
        budget=Budget(seconds=None, sequences=None),
        seed=1,
        database=Path("/nowhere/examples"),
        watch=tried.append,
    )
    minimal = search._shrunk(moves, FAILURE)
    assert fails(minimal.steps)
    assert len(gists(minimal.steps)) <= len(made)
    assert len(tried) <= 4 * len(moves) + 10
    shorter = [carried_out([*moves[:place], *moves[place + 1 :]]) for place in range(len(moves))]
    if not any(fails(each) for each in shorter if each):
        assert gists(minimal.steps) == made
