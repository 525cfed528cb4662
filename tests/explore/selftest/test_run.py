"""What the selftest makes of its trials."""

from __future__ import annotations

import pytest

from harness.check.result import Cause, CellResult, Verdict
from harness.cli import call
from harness.engine_plugin.faults import FAULTS
from harness.errors import UsageError
from harness.explore.selftest.run import Outcome, conclusion, faults_named, scenario_for, table
from harness.installation import shipped_scenarios
from harness.scenario.loader import load_scenario
from harness.scenario.schema import Scenario
from tests.check.stories import Story, failing, garbage


def result(verdict: Verdict | None, cause: Cause | None = None) -> CellResult:
    """A judged trial."""
    error = None if verdict else "ServerDiedError"
    return CellResult(cell="c", scenario="s", arm="a", verdict=verdict, cause=cause, reason="r", error=error)


def outcome(fault: str | None, judged: CellResult | None) -> Outcome:
    """How a trial of ``fault`` came out."""
    return Outcome(name=fault or "healthy", fault=FAULTS[fault] if fault else None, result=judged)


def test_all_faults_are_planted_unless_some_are_named() -> None:
    """Left out is what takes several ranks, and what the default model lacks: how to have it is told."""
    left_out = {name for name, each in FAULTS.items() if each.pictures or each.ranks > 1}
    assert [each.name for each in faults_named(())] == [name for name in FAULTS if name not in left_out]
    assert [fault.name for fault in faults_named(("lose-weights-of-one-rank",))] == [
        "lose-weights-of-one-rank"
    ]
    with pytest.raises(UsageError, match="reads pictures") as caught:
        faults_named(("lose-encoder-outputs",))
    assert "multimodal-cache --fault lose-encoder-outputs" in caught.value.remedy
    assert [fault.name for fault in faults_named(("swap-rows",))] == ["swap-rows"]


def test_a_misspelt_fault_is_refused_with_the_nearest_name() -> None:
    """Before any engine is started."""
    with pytest.raises(UsageError, match="did you mean 'swap-rows'"):
        faults_named(("swap-row",))


@pytest.mark.parametrize(
    ("fault", "judged", "noticed", "named", "as_expected"),
    [
        ("lose-weights", result(Verdict.CORRUPT, Cause.LOST_WEIGHTS), True, True, True),
        ("lose-weights", result(Verdict.CORRUPT, Cause.UNKNOWN), True, False, True),
        ("leak-memory", result(Verdict.DEGRADED, Cause.MEMORY), True, True, True),
        ("lose-weights", result(Verdict.INCONCLUSIVE), False, False, False),
        ("lose-weights", None, False, False, False),
        (None, result(Verdict.CLEAN), False, False, True),
        (None, result(Verdict.CORRUPT, Cause.UNKNOWN), True, False, False),
        (None, result(None), False, False, False),
    ],
)
def test_what_counts(
    fault: str | None, judged: CellResult | None, *, noticed: bool, named: bool, as_expected: bool
) -> None:
    """A fault must be noticed, a healthy engine clean; doubt is neither."""
    each = outcome(fault, judged)

    assert (each.noticed, each.named, each.as_expected) == (noticed, named, as_expected)


def test_the_table_says_where_damage_was_seen() -> None:
    """The evidence that shows it, in the order in which it is asked for."""
    damaged = dict.fromkeys(("p0", "p1"), garbage(1))
    story = Story().baseline().null().sleep().wake().probe(warm=damaged, cold=damaged)
    seen = outcome("lose-weights", story.judged())
    hung = Story().baseline().null().sleep().wake().probe(warm={"p0": failing("hang")}).judged()

    rows = table([seen, outcome("drop-request", hung), outcome(None, None)]).rows
    assert [row.fields[4] for row in rows] == ["warm, cold", "warm", ""]
    assert [row.fields[2] for row in rows] == ["corrupt", "corrupt", "not run"]


def test_the_conclusion_counts_faults_and_healthy_engines_apart() -> None:
    """Both kinds of error are of interest."""
    outcomes = [
        outcome("lose-weights", result(Verdict.CORRUPT, Cause.LOST_WEIGHTS)),
        outcome("swap-rows", result(Verdict.CLEAN)),
        outcome(None, result(Verdict.CLEAN)),
    ]

    assert conclusion(outcomes) == (
        "1 of 2 faults noticed, 1 attributed to the right cause, 0 in doubt; 1 of 1 healthy engine clean"
    )


def test_the_scenario_asks_for_all_evidence() -> None:
    """A fault that only one kind of evidence shows would be missed otherwise."""
    scenario = load_scenario(shipped_scenarios() / "selftest.yaml").scenario

    assert set(scenario.evidence) == {"warm", "rehit", "cold", "scored", "sampled", "unseen"}


def test_every_cause_class_has_a_fault_that_can_be_planted() -> None:
    """An engine without a GPU can show them all; what comes and goes has none to name."""
    planted = {fault.cause for fault in FAULTS.values()}

    assert {cause.value for cause in Cause} - planted == {"intermittent", "unknown"}


def test_an_adapter_is_loaded_and_asked_before_and_after() -> None:
    """Its own baseline and noise come before anything is planted; the script stays one that can be loaded."""
    plain = load_scenario(shipped_scenarios() / "selftest.yaml").scenario
    changed = scenario_for(FAULTS["lose-adapters"].needs, plain)
    assert Scenario.model_validate(changed.model_dump(mode="json")) == changed
    assert set(plain.evidence) - set(changed.evidence) == {"scored"}
    assert [next(iter(type(step).model_fields)) for step in changed.script] == [
        "probe",
        "null_transition",
        "load_adapter",
        "probe",
        "null_transition",
        "repeat",
        "probe",
        "probe",
        "probe",
    ]


def test_an_engine_that_drafts_has_time_to_do_without() -> None:
    """A draft model that is lost makes answers late, which is not what its trial is about."""
    plain = load_scenario(shipped_scenarios() / "selftest.yaml").scenario
    patient = scenario_for(FAULTS["lose-draft-weights"].needs, plain)
    assert patient.deadlines.answer > plain.deadlines.answer


def test_faults_are_listed_with_their_cause(capsys: pytest.CaptureFixture[str]) -> None:
    """`selftest --list` starts nothing."""
    assert call(["selftest", "--list", "--fault", "lose-weights"]) == 0
    assert capsys.readouterr().out.startswith("lose-weights: lost weights. ")
