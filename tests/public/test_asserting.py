"""``sleepwake.assert_clean``: what is not clean fails, and says why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import sleepwake
from harness.check.result import Cause, CellResult, RunResult, Side, Verdict, Witness

DIRECTORY = Path("reports/one/cells/check-1")


def checked(verdict: str, **more: object) -> sleepwake.GuardVerdict:
    """What a guard says."""
    told = {
        "cause": None,
        "reason": "because",
        "witness": None,
        "tokens": 0,
        "seconds": 0.0,
        "directory": DIRECTORY,
    }
    return sleepwake.GuardVerdict(verdict=verdict, **{**told, **more})  # type: ignore[arg-type]


def test_what_is_clean_passes() -> None:
    """A check, and a run whose cells all are."""
    sleepwake.assert_clean(checked("clean"))
    sleepwake.assert_clean(run(cell("a.on", Verdict.CLEAN), cell("b.on", Verdict.CLEAN)))


def test_a_check_fails_with_its_witness() -> None:
    """The clearest changed answer is the failure's text."""
    witness = sleepwake.GuardWitness(
        prompt="india", before="a country", after="uary", first_difference=1, baseline_gap=2.0
    )
    verdict = checked("corrupt", cause="stale prefix cache", witness=witness)
    with pytest.raises(AssertionError) as failure:
        sleepwake.assert_clean(verdict)
    assert str(failure.value).splitlines() == [
        "corrupt (stale prefix cache): because",
        "  prompt india, differs from token 1 on",
        "  before: 'a country'",
        "  after:  'uary'",
        f"  recording: {DIRECTORY}",
    ]


def test_inconclusive_is_not_clean() -> None:
    """Whoever asks for clean is told that nobody knows."""
    with pytest.raises(AssertionError, match=r"^inconclusive: because"):
        sleepwake.assert_clean(checked("inconclusive"))


def side(text: str) -> Side:
    """An answer."""
    return Side(
        pass_number=1,
        condition="warm",
        text=text,
        token_ids=(1,),
        finish_reason="length",
        cached_tokens=None,
        likeliest=(),
    )


def cell(name: str, verdict: Verdict | None, **more: object) -> CellResult:
    """A judged cell."""
    told = {"cell": name, "scenario": name, "arm": "on", "verdict": verdict, "reason": "because", **more}
    return CellResult.model_validate(told)


def run(*cells: CellResult) -> SimpleNamespace:
    """A judged run, as far as it is looked at."""
    return SimpleNamespace(result=RunResult(run="one", verdict=None, exit_code=0, cells=cells))


def test_every_cell_that_is_not_clean_is_told() -> None:
    """With its name; a cell without a verdict tells what was in its way."""
    witness = Witness(
        prompt="india",
        prompt_text="India?",
        baseline=side("a country"),
        after=side("uary"),
        first_difference=0,
        baseline_gap=None,
    )
    judged = run(
        cell("a.on", Verdict.CLEAN),
        cell("b.on", Verdict.CORRUPT, cause=Cause.LOST_WEIGHTS, witness=witness),
        cell("c.on", None, error="the server died"),
    )
    with pytest.raises(AssertionError) as failure:
        sleepwake.assert_clean(judged)
    assert str(failure.value).splitlines() == [
        "b.on: corrupt (lost weights): because",
        "  prompt india, differs from token 0 on",
        "  before: 'a country'",
        "  after:  'uary'",
        "",
        "c.on: no verdict: the server died",
    ]
