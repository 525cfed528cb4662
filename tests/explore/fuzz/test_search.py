"""The search against engines that exist only as a rule: which sequences fail, and how."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.check.result import Cause, CellResult, Finding, Strength, Verdict
from harness.errors import UsageError
from harness.explore.fuzz import search as fuzz_search
from harness.explore.fuzz.engine import Carried
from harness.explore.fuzz.findings import (
    DIED,
    WRONG_ANSWERS,
    KnownFindings,
    Signature,
    gists,
    signature,
)
from harness.explore.fuzz.moves import LEGAL_MOVES, SAFE_MOVES
from harness.explore.fuzz.run import seconds_in
from harness.explore.fuzz.search import Budget, Minimal, Search, Steps, Tried
from harness.explore.fuzz.sequences import carried_out

Rule = Callable[[tuple[str, ...]], Cause | None]
"""How an engine fails after these calls; None where it does not."""


class Bench:
    """A search of an engine that is a rule, and what was seen of it."""

    def __init__(
        self,
        folder: Path,
        rule: Rule,
        *,
        sequences: int = 600,
        seed: int = 7,
        failing_settings: tuple[int, ...] = (0,),
    ) -> None:
        self._rule = rule
        self._failing_settings = failing_settings
        self._folder = folder
        self.tried: list[Tried] = []
        self.budget = Budget(seconds=None, sequences=sequences)
        self.known = KnownFindings(folder / "known.json")
        self.search = Search(
            try_sequence=self._try_sequence,
            moves=LEGAL_MOVES,
            known=self.known,
            budget=self.budget,
            seed=seed,
            database=folder / "examples",
            watch=self.tried.append,
            settings=1 + max(failing_settings),
        )

    def run(self) -> list[Minimal]:
        """Search to the end, remembering what is found."""
        found = []
        for minimal in self.search.new_failures():
            found.append(minimal)
            its = signature(minimal.failure, minimal.steps)
            self.known.add(its)
            self.known.keep(its)
        return found

    def _try_sequence(self, steps: Steps, setting: int) -> Carried:
        cause = self._rule(gists(steps)) if setting in self._failing_settings else None
        return Carried(steps=steps, result=_result(cause), seconds=0, directory=self._folder)


def _result(cause: Cause | None) -> CellResult:
    verdict = Verdict.CLEAN if cause is None else Verdict.CORRUPT
    finding = Finding(checker="divergence", message="differs", strength=Strength.PROOF)
    return CellResult(
        cell="c",
        scenario="s",
        arm="a",
        verdict=verdict,
        cause=cause,
        reason="",
        findings=() if cause is None else (finding,),
    )


def after(*calls: str, cause: Cause = Cause.STALE_PREFIX_CACHE) -> Rule:
    """Fails once these calls were made in this order."""

    def rule(made: tuple[str, ...]) -> Cause | None:
        left = iter(made)
        return cause if all(call in left for call in calls) else None

    return rule


@pytest.mark.cell
def test_a_failing_sequence_is_shrunk_to_what_it_takes(tmp_path: Path) -> None:
    """Whatever was drawn around it is gone, and what closes the script is the shortest there is."""
    (found,) = Bench(tmp_path, after("sleep level=0", "sleep level=1")).run()
    assert gists(found.steps) == ("sleep level=0", "sleep level=1", "wake_up")


@pytest.mark.cell
def test_findings_of_two_kinds_are_both_found(tmp_path: Path) -> None:
    """The first does not hide the second, and neither is reported twice."""
    rules = [after("pause", "release_kv_cache_memory"), after("sleep level=2", cause=Cause.LOST_WEIGHTS)]
    found = Bench(tmp_path, lambda made: next(filter(None, (rule(made) for rule in rules)), None)).run()
    assert {each.failure.cause for each in found} == {"stale prefix cache", "lost weights"}
    assert len(found) == 2


def test_a_healthy_engine_is_left_alone(tmp_path: Path) -> None:
    """Nothing is found, and the budget is spent to the last sequence, each another one."""
    bench = Bench(tmp_path, lambda _: None, sequences=200)
    assert bench.run() == []
    assert bench.budget.carried_out == len({each.carried.steps for each in bench.tried}) == 200


def test_the_same_seed_draws_the_same_sequences(tmp_path: Path) -> None:
    """A search can be repeated."""
    runs = [Bench(tmp_path / str(number), lambda _: None, sequences=50) for number in range(2)]
    first, second = ([each.carried.steps for each in run.tried] for run in runs if run.run() == [])
    assert first == second


@pytest.mark.cell
def test_what_an_earlier_search_found_is_known(tmp_path: Path) -> None:
    """The file of known findings outlives the search; what it explains is counted and passed over."""
    rule = after("sleep level=2")
    assert len(Bench(tmp_path, rule, sequences=300).run()) == 1
    again = Bench(tmp_path, rule, sequences=300)
    assert again.run() == []
    assert any(each.known for each in again.tried)


def test_nothing_is_carried_out_twice(tmp_path: Path) -> None:
    """An engine costs seconds a sequence: the outcome of one that was tried is remembered."""
    bench = Bench(tmp_path, after("pause", "resume", "sleep level=1"), sequences=250)
    bench.run()
    carried = [each.carried.steps for each in bench.tried]
    assert len(carried) == len(set(carried))


@pytest.mark.parametrize("seed", range(3))
def test_a_failure_is_shrunk_with_few_sequences(tmp_path: Path, seed: int) -> None:
    """Nothing is drawn once one fails, and what is left out at a time is half of it first."""
    bench = Bench(tmp_path, after("pause", "release_kv_cache_memory"), seed=seed)
    found = next(bench.search.new_failures())
    assert gists(found.steps) == ("pause", "release_kv_cache_memory", "wake_up")
    assert sum(each.shrinking for each in bench.tried) <= 20


@pytest.mark.parametrize("failure", [Cause.SCHEDULER, Cause.STALE_PREFIX_CACHE])
def test_a_known_death_is_not_tried_again(tmp_path: Path, failure: Cause) -> None:
    """It would cost an engine each time; what only answers wrongly is tried, and counted as known."""
    kind = DIED if failure is Cause.SCHEDULER else WRONG_ANSWERS
    bench = Bench(tmp_path, after("sleep level=2", cause=failure), sequences=100)
    bench.known.add(Signature(kind=kind, cause=failure.value, calls=("sleep level=2",)))
    assert bench.run() == []
    with_it = [each for each in bench.tried if "sleep level=2" in gists(each.carried.steps)]
    assert bool(with_it) == (kind is WRONG_ANSWERS)


def test_what_fails_only_once_is_no_finding(tmp_path: Path) -> None:
    """A busy machine can make one sequence fail: it is asked again before anybody is told."""
    fluke = iter([Cause.SCHEDULER])
    bench = Bench(tmp_path, lambda _: next(fluke, None), sequences=50)
    assert bench.run() == []
    assert len({each.carried.steps for each in bench.tried}) == 49


@pytest.mark.cell
def test_what_shrinks_to_something_known_is_known(tmp_path: Path) -> None:
    """With requests in flight the mode of a sleep counts; without them it is the same sequence again."""
    bench = Bench(tmp_path, after("sleep level=2"))
    (found,) = bench.run()
    assert found.steps
    known = Signature(kind=WRONG_ANSWERS, cause=found.failure.cause, calls=("sleep level=2", "wake_up"))
    # Which sequences are drawn depends on the modules that are loaded: this one is put together.
    pairs = itertools.product(LEGAL_MOVES, repeat=2)
    steps = next(
        steps
        for steps in map(carried_out, pairs)
        if {"start_requests", "sleep level=2 mode=keep"} <= set(gists(steps))
    )
    assert known.is_in(steps)


def test_what_is_known_is_tried_now_and_then(tmp_path: Path) -> None:
    """Most sequences that make its calls would only fail so again; the others may hide something."""
    bench = Bench(tmp_path, after("sleep level=2"), sequences=200)
    bench.run()
    known = [each for each in bench.tried if each.known]
    others = [each for each in bench.tried if not each.known and not each.shrinking]
    assert 0 < len(known) < len(others) / 2


def test_every_call_is_drawn_about_as_often(tmp_path: Path) -> None:
    """What a sequence is made of does not depend on those before it."""
    bench = Bench(tmp_path, lambda _: None, sequences=300)
    bench.run()
    drawn = Counter(gists(each.carried.steps)[0] for each in bench.tried)
    assert drawn.most_common(1)[0][1] < 300 / 3


def test_lists_of_procedures_are_shorter_than_lists_of_calls(tmp_path: Path) -> None:
    """What counts is how many calls come to an engine, one by one or several at a time."""
    bench = Bench(tmp_path, lambda _: None, sequences=100)
    bench.search.moves = SAFE_MOVES
    bench.run()
    calls = [len(gists(each.carried.steps)) for each in bench.tried]
    assert 4 < sum(calls) / len(calls) < 12
    assert len(calls) == 100


def test_shrinking_ends_with_its_share_of_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is spent, the shortest sequence so far is the finding: here, the one that was drawn."""
    monkeypatch.setattr(fuzz_search, "SHRINKING_SHARE", 0.0)
    monkeypatch.setattr(fuzz_search, "LEAST_SHRINKING_S", 0.0)
    bench = Bench(tmp_path, after("sleep level=0", "sleep level=1"))
    seconds = itertools.count()
    bench.search.budget = Budget(seconds=1e9, sequences=None, clock=lambda: float(next(seconds)))
    found = next(bench.search.new_failures())
    assert found.steps == found.drawn
    assert [each.carried.steps for each in bench.tried if each.shrinking] == [found.steps]


def test_every_way_to_start_an_engine_is_tried_in_turn(tmp_path: Path) -> None:
    """So many sequences each, then the next, and the first again."""
    bench = Bench(tmp_path, lambda _: None, sequences=100, failing_settings=(2,))
    bench.run()
    settings = [key for key, _ in itertools.groupby(each.setting for each in bench.tried)]
    assert settings == [0, 1, 2, 0]


@pytest.mark.cell
def test_a_finding_names_the_engine_it_takes(tmp_path: Path) -> None:
    """What fails on one kind of engine only is a finding of that kind, shrunk there."""
    (found,) = Bench(tmp_path, after("sleep level=2"), failing_settings=(1,)).run()
    assert (found.setting, gists(found.steps)) == (1, ("sleep level=2", "wake_up"))


def test_a_finding_that_every_engine_shows_is_one_of_the_first(tmp_path: Path) -> None:
    """Flags it does not take are left out, as calls are."""
    fails = after("sleep level=1", "sleep level=2")
    bench = Bench(
        tmp_path, lambda made: fails(made) if len(bench.tried) > 30 else None, failing_settings=(0, 1)
    )
    found = next(bench.search.new_failures())
    assert {each.setting for each in bench.tried if each.failure} == {0, 1}
    assert (found.setting, gists(found.steps)) == (0, ("sleep level=1", "sleep level=2", "wake_up"))


def test_a_damaged_file_of_known_findings_is_a_usage_error(tmp_path: Path) -> None:
    """It is not silently taken for empty: what is known would be reported again."""
    (tmp_path / "known.json").write_text(json.dumps({"findings": [1]}), encoding="utf-8")
    with pytest.raises(UsageError, match="no file of known findings"):
        KnownFindings(tmp_path / "known.json")


@pytest.mark.parametrize(("written", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400)])
def test_a_budget_is_written_with_its_unit(written: str, seconds: float) -> None:
    """As people write durations."""
    assert seconds_in(written) == seconds


@pytest.mark.parametrize("written", ["20", "m", "0m", "-1s", "20 minutes"])
def test_a_budget_without_a_unit_is_refused(written: str) -> None:
    """Twenty what?"""
    with pytest.raises(UsageError, match="--budget"):
        seconds_in(written)
