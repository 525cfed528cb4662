"""A part of the judgement that crashes costs what it would have said, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

from harness.check import judge_run, verdict
from harness.check.checkers import CHECKERS, About, Checker
from harness.check.diagnosis import cause, inconclusive, witness_choice
from harness.check.evidence import Evidence
from harness.check.noise import limits
from harness.check.result import Cause, CellResult, Finding, Verdict
from harness.cli import call
from harness.errors import ExitCode
from harness.history.passes import Control
from tests.check.stories import Story, clean_story, garbage

SHARED = (property, cached_property)
"""What the evidence derives, for several checkers each."""

STORED = Path(__file__).parents[1] / "data" / "runs" / "format-1" / "clean"


def crash(*_: object, **__: object) -> Iterable[Finding]:
    """Fail as code of ours may."""
    raise ZeroDivisionError("division by zero")


def crashing(name: str) -> tuple[Checker, ...]:
    """All checkers, of which one crashes."""
    return tuple(
        Checker(name=each.name, about=each.about, cause=each.cause, find=crash) if each.name == name else each
        for each in CHECKERS
    )


def judged(story: Story, name: str, monkeypatch: pytest.MonkeyPatch) -> CellResult:
    """The judgement of a story where one checker crashes."""
    monkeypatch.setattr(verdict, "CHECKERS", crashing(name))
    return story.judged()


def corrupt() -> Story:
    """Answers changed, and a sleep gave no memory back; the controls name the prefix cache."""
    changed = {name: garbage() for name in ("p0", "p1", "p2", "p3")}
    story = Story().baseline().null().sleep(freed=0, keeps_cache=True).wake().probe(1, warm=changed)
    return story.control(Control.FRESH_SALT).control(Control.RESET_PREFIX_CACHE)


def degraded() -> Story:
    """A sleep gave no memory back."""
    return Story().baseline().null().sleep(freed=0).wake().probe()


@pytest.mark.parametrize("name", [each.name for each in CHECKERS])
def test_a_crash_keeps_a_cell_from_being_clean(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the checker would have said is not known: inconclusive, exit 3, with its traceback."""
    result = judged(clean_story(), name, monkeypatch)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.bound is None
    assert judge_run([result], run="r").exit_code == ExitCode.INCONCLUSIVE
    [kept] = result.crashes
    assert (kept.part, kept.error) == (f"the checker {name}", "ZeroDivisionError: division by zero")
    assert 'raise ZeroDivisionError("division by zero")' in kept.traceback
    assert result.reason == (
        f"the checker {name} crashed, ZeroDivisionError: division by zero: this is a defect of sleepwake, "
        "not of the engine; the traceback is in verdict.json"
    )


@pytest.mark.parametrize("name", [each.name for each in CHECKERS])
def test_the_findings_of_the_others_stand(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is missing is what the checker that crashed finds."""
    recording = corrupt().finish().recording()
    [broken] = [each for each in CHECKERS if each.name == name]
    lost = list(broken.find(Evidence(recording)))
    whole = verdict.judge(recording)
    monkeypatch.setattr(verdict, "CHECKERS", crashing(name))
    result = verdict.judge(recording)
    assert result.findings == tuple(each for each in whole.findings if each not in lost)


def test_corruption_that_others_prove_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing worse could have been found."""
    result = judged(corrupt(), "memory", monkeypatch)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE)
    assert "the checker memory crashed" in result.reason
    assert len(result.crashes) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (each.name, Verdict.DEGRADED if each.about is About.ENGINE else Verdict.INCONCLUSIVE)
        for each in CHECKERS
        if each.name != "memory"
    ],
)
def test_degraded_says_that_answers_hold(
    name: str, expected: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said only if those who would have told of answers were heard; what was found is told anyway."""
    result = judged(degraded(), name, monkeypatch)
    assert result.verdict is expected
    assert result.reason.startswith("sleep level 1: memory in use changed by +0 MiB")
    assert result.reason.count(f"the checker {name} crashed") == 1


@pytest.mark.parametrize(("module", "function"), [(cause, "attribute"), (witness_choice, "choose")])
def test_what_explains_corruption_cannot_take_it_back(
    module: ModuleType, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The findings prove it; a cause or a witness is missing then."""
    monkeypatch.setattr(module, function, crash)
    result = corrupt().judged()
    assert result.verdict is Verdict.CORRUPT
    assert (result.cause is Cause.UNKNOWN, result.witness is None) == (module is cause, module is not cause)
    assert len(result.crashes) == 1


def test_where_nothing_says_what_is_missing_nothing_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither without the search for obstacles, nor without the bound."""
    for module, function in ((inconclusive, "find"), (limits, "rule_out")):
        with monkeypatch.context() as patched:
            patched.setattr(module, function, crash)
            assert clean_story().judged().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", [name for name, kind in vars(Evidence).items() if isinstance(kind, SHARED)])
def test_no_crash_ends_the_judgement(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of the evidence cannot be laid out, a cell that needs it has a verdict, and not clean."""
    recordings = [story.finish().recording() for story in (clean_story(), degraded(), corrupt())]
    usual = [verdict.judge(each).verdict for each in recordings]
    monkeypatch.setattr(Evidence, name, property(crash))
    for recording, before in zip(recordings, usual, strict=True):
        result = verdict.judge(recording)
        assert result.verdict in {Verdict.INCONCLUSIVE, before}
        assert (result.verdict, bool(result.crashes)) != (Verdict.CLEAN, True)


def test_the_traceback_lies_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sleepwake check` tells of the crash in a line, exits with 3 and keeps the traceback."""
    shutil.copytree(STORED, tmp_path / "run")
    monkeypatch.setattr(verdict, "CHECKERS", crashing("cache"))
    assert call(["check", str(tmp_path / "run")]) == ExitCode.INCONCLUSIVE
    [cell] = json.loads((tmp_path / "run" / "verdict.json").read_text(encoding="utf-8"))["cells"]
    assert cell["crashes"][0]["traceback"].rstrip().endswith("ZeroDivisionError: division by zero")
    assert "the checker cache crashed" in " ".join(capsys.readouterr().out.split())
