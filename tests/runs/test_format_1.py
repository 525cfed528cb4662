"""Runs that were stored in format 1 stay readable.

Three of them lie in ``tests/data/runs/format-1``, recorded from the fake server: a clean and a corrupt one,
which are the two shards of one matrix, with an adapter and requests in flight; and one that was interrupted
in its second cell.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness import workflow
from harness.cli import call
from harness.errors import ExitCode
from harness.servers.select import Choice
from tests.conftest import leave_undrawn
from tests.fake_vllm.in_process import InProcessRuntime

STORED = Path(__file__).parents[1] / "data" / "runs" / "format-1"
RUNS = {
    "clean": ExitCode.CLEAN,
    "corrupt": ExitCode.CORRUPT_OR_DEGRADED,
    "interrupted": ExitCode.INFRASTRUCTURE,
}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with copies of the runs, and of the scenarios that they were made of."""
    folder = tmp_path / "stored"
    shutil.copytree(STORED, folder)
    # Kept under another name, so that pytest does not take them for scenarios of this project.
    (folder / "asked").rename(tmp_path / "scenarios")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLEEPWAKE_OUT", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def told(run: Path) -> list[tuple[str, str | None, str | None]]:
    """The cells of ``verdict.json`` with their verdicts and causes."""
    cells = json.loads((run / "verdict.json").read_text(encoding="utf-8"))["cells"]
    return [(cell["cell"], cell["verdict"], cell["cause"]) for cell in cells]


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_is_judged_as_it_was(stored: Path, name: str) -> None:
    """`sleepwake check` finds the verdict and the cause that were found when it was recorded."""
    before = told(stored / name)
    assert call(["check", name]) == RUNS[name]
    assert told(stored / name) == before


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_is_reported(stored: Path, name: str) -> None:
    """`sleepwake report` draws the page of every one of them."""
    assert call(["report", name]) == ExitCode.CLEAN
    assert "processor" in (stored / name / "report.html").read_text(encoding="utf-8")


def test_stored_runs_are_compared(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sleepwake compare` names the settings that both have."""
    assert call(["compare", "clean", "interrupted", "--markdown"]) == ExitCode.CLEAN
    output = capsys.readouterr().out
    assert "toy-model" in output
    assert "adapter-and-streams" in output
    assert stored.exists()


def test_stored_runs_are_listed(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sleepwake history` tells the outcome of each."""
    assert call(["history", "--out", str(stored)]) == ExitCode.CLEAN
    lines = capsys.readouterr().out.splitlines()
    for name, outcome in (("clean", "clean"), ("corrupt", "corrupt"), ("interrupted", "clean, interrupted")):
        assert any(line.startswith(name) and outcome in line and "0.32.0" in line for line in lines), lines


def test_stored_shards_are_merged(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sleepwake merge` makes one run of the clean and the corrupt shard."""
    leave_undrawn(monkeypatch)
    assert call(["merge", "clean", "corrupt", "--out", str(stored)]) == ExitCode.CORRUPT_OR_DEGRADED
    assert told(stored / "latest") == told(stored / "clean") + told(stored / "corrupt")


@pytest.mark.cell
def test_a_stored_run_is_carried_on(
    stored: Path, toy_model_folder: Path, in_process: InProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sleepwake run --resume` keeps the finished cell, and runs the other two."""
    leave_undrawn(monkeypatch)
    monkeypatch.setattr(workflow, "choose", lambda _: Choice(runtime=in_process, reason="the only one here"))
    assert call(["run", "--resume", "interrupted"]) == ExitCode.CLEAN
    assert [verdict for _, verdict, _ in told(stored / "interrupted")] == ["clean"] * 3
    assert toy_model_folder.name in (stored / "interrupted" / "run.json").read_text(encoding="utf-8")


def test_a_stored_run_gives_a_bug_report(stored: Path) -> None:
    """`sleepwake bug-report` writes the issue of the damaged cell, with a script that shows it again."""
    assert call(["bug-report", "corrupt"]) == ExitCode.CLEAN
    written = stored / "corrupt" / "bug-reports" / "adapter-and-streams.damaged"
    assert "stale prefix cache" in (written / "ISSUE.md").read_text(encoding="utf-8")
    assert "load_lora_adapter" in (written / "repro.py").read_text(encoding="utf-8")
