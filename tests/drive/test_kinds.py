"""Requests of other kinds than a probe's, asked of the fake before and after it slept."""

from __future__ import annotations

from typing import get_args

import pytest

from harness.check import judge
from harness.check.result import Cause, CellResult, Strength, Verdict
from harness.history.passes import Role
from harness.history.recording import Recording
from harness.kinds import KINDS
from harness.scenario.steps.asking import KindName
from tests.drive.conftest import Driver

pytestmark = pytest.mark.anyio

FEW = "kinds: few"
SHORT = """\
- probe: baseline
- null_transition: {passes: 1}
- sleep: {level: 1}
- wake_up: {}
- probe: after-wake
"""
TAKES_A_PARSER = "tools"
"""The fake has none, like a server without ``--tool-call-parser``."""


def test_scenarios_know_every_kind() -> None:
    """What a scenario may name is what there is, in the same order."""
    assert get_args(KindName) == tuple(KINDS)


@pytest.mark.cell
async def test_every_kind_is_asked_once_a_probe_and_comes_back_the_same(driver: Driver) -> None:
    """A healthy engine answers each as before, and by each kind's own oracle."""
    recording = await driver.run(more="kinds: all")
    asked = {(each.asks, each.role, each.cycle) for each in recording.kinds}
    moments = [(Role.BASELINE, 0), (Role.NULL, 0), (Role.AFTER, 1), (Role.AFTER, 2)]
    judged = set(KINDS) - {TAKES_A_PARSER}
    assert asked == {(name, *at) for name in judged for at in moments} | {(TAKES_A_PARSER, Role.BASELINE, 0)}
    assert not any(each.again for each in recording.kinds)
    assert judge(recording).verdict is Verdict.CLEAN


async def test_what_was_asked_is_recorded(driver: Driver) -> None:
    """The history holds each request, but for its model and its cache salt."""
    recording = await driver.run(script=SHORT, more="kinds: [stop-strings]")
    stops = next(each for each in recording.kinds if each.asks == "stop-strings")
    (answer,) = stops.answers
    assert answer.path == "/v1/completions"
    assert {"stop", "prompt", "max_tokens"} <= set(answer.body)
    assert not {"model", "cache_salt"} & set(answer.body)


async def test_none_is_asked_unless_a_scenario_says_so(driver: Driver) -> None:
    """Whoever runs a scenario as it stands asks its prompts alone."""
    assert (await driver.ran()).kinds == ()


@pytest.mark.cell
async def test_few_are_those_that_cost_little(driver: Driver) -> None:
    """Long prompts, and more requests than run at a time, are left out."""
    recording = await driver.run(script=SHORT, more=FEW)
    assert judge(recording).verdict is Verdict.CLEAN
    assert {each.asks for each in recording.kinds} == {kind.name for kind in KINDS.values() if kind.cheap}


async def test_a_fault_is_found_by_its_own_kind(driver: Driver) -> None:
    """No answer of the probes changes; the kind's oracle names the cause."""
    result = judge(await driver.run(fault="ignore-stops", script=SHORT, more="kinds: [stop-strings]"))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.STOPS)


@pytest.mark.cell
@pytest.mark.parametrize(
    ("fault", "cause", "by"),
    [
        ("lose-grammar-state", Cause.GRAMMAR, {"json-schema", "regex", "choice", "grammar"}),
        ("ignore-stops", Cause.STOPS, {"stop-strings", "stop-ids"}),
        ("garble-text", Cause.TEXT, {"streamed"}),
        (
            "forget-penalties",
            Cause.STEERING,
            {"frequency-penalty", "logit-bias", "bad-words", "allowed-ids", "min-tokens"},
        ),
    ],
)
async def test_each_fault_is_found_by_its_own_kind(
    driver: Driver, fault: str, cause: Cause, by: set[str]
) -> None:
    """No answer of the probes changes, and the oracle of the kind that is broken names the cause."""
    result = judge(await driver.run(fault=fault, script=SHORT, more=FEW))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, cause)
    assert by <= proven(result, cause)


KEPT = """\
- probe: baseline
- null_transition: {passes: 1}
- start_requests: {name: kept, kinds: true}
- sleep: {level: 1, mode: keep}
- wake_up: {}
- finish_requests: {name: kept}
- probe: after-wake
"""


@pytest.mark.cell
async def test_kinds_in_flight_fall_asleep_with_the_engine(driver: Driver) -> None:
    """Sent before a sleep that keeps them, they are answered after it, as before."""
    recording = await driver.run(script=KEPT, more=FEW, misbehave="slow:100")
    kept = [each for each in recording.kinds if each.in_flight]
    assert {each.asks for each in kept} == {kind.name for kind in KINDS.values() if kind.cheap}
    sent, awake = recording.requests[0].start.t, recording.step_ends["5"].t
    over = {kind.asks for kind in kept if sent + max(each.seconds for each in kind.answers) > awake}
    assert {"json-schema", "stop-strings", "seeded"} <= over
    assert judge(recording).verdict is Verdict.CLEAN


@pytest.mark.cell
async def test_those_that_are_ended_early_are_not_judged(driver: Driver) -> None:
    """A script that expects its requests to be aborted expects it of these too."""
    aborted = KEPT.replace("mode: keep", "mode: abort").replace("name: kept}", "name: kept, expect: ended}")
    recording = await driver.run(script=aborted, more=FEW, misbehave="slow:100")
    assert not [each for each in recording.kinds if each.in_flight]
    assert judge(recording).verdict is Verdict.CLEAN


@pytest.mark.cell
async def test_damage_that_every_answer_shows_keeps_its_cause(driver: Driver) -> None:
    """Lost weights change kinds as well; that is told, and accuses nothing else."""
    result = judge(await driver.run(fault="lose-weights", script=SHORT, more=FEW))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS)


@pytest.mark.cell
async def test_noise_alone_proves_nothing(driver: Driver) -> None:
    """Where answers differ by themselves, another answer of a kind is a hint; its oracle still judges."""
    recording = await driver.run(misbehave="noise:60", script=SHORT, more=FEW)
    result = judge(recording)
    assert result.verdict is not Verdict.CORRUPT
    assert not proven(result)
    assert differ(recording)


def proven(result: CellResult, cause: Cause | None = None) -> set[str]:
    """The kinds that prove something, or prove this cause."""
    return {
        str(finding.evidence["kind"])
        for finding in result.findings
        if finding.checker == "kinds"
        and finding.strength is Strength.PROOF
        and cause in {None, finding.evidence["cause"]}
    }


def differ(recording: Recording) -> bool:
    """Whether any kind was asked again."""
    return any(each.again for each in recording.kinds)
