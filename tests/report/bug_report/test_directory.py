"""Which cell is reported, and what is written about it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.check.result import RunResult
from harness.errors import ExitCode, UsageError
from harness.history.layout import cell_folder
from harness.history.recording import load_recording
from harness.history.run_description import AskedOptions, RunDescription, read_description
from harness.history.store import HistoryWriter
from harness.report.bug_report import Private, choose_cell, write_bug_report
from harness.report.model import Report, assemble
from tests.report import examples

PRIVATE = Private(hosts=frozenset({"gpu-box-7"}), folders={"/data/alice": "~"})
HOME = "/data/alice/.venv/bin/python"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with the history and the log of one cell; both hold what nobody else need know."""
    folder = cell_folder(tmp_path / "run", "boot.small")
    with HistoryWriter(folder / "history.jsonl") as history:
        failed = examples.failed_recording(text=f"{HOME} on gpu-box-7 said HF_TOKEN=abcdefgh12")
        history.write(failed.cell)
        assert failed.failure
        history.write(failed.failure)
    (folder / "server.log").write_bytes(b"\xff gpu-box-7 HF_TOKEN=abcdefgh12\n")
    return tmp_path / "run"


def failed_report() -> Report:
    """A report of one failed cell, attached to a server of a company."""
    return assemble(
        examples.result_of(examples.failed_cell()),
        {"boot.small": examples.failed_recording()},
        run=RunDescription(
            run="r",
            options=AskedOptions(endpoint="http://inference.corp.example:8000"),
            command=(HOME,),
            cells={},
        ),
    )


def test_the_worst_cell_is_reported_unless_one_is_named() -> None:
    """Corrupt before degraded before error."""
    report = examples.mixed_report()
    assert choose_cell(report, None).outcome == "corrupt"
    assert choose_cell(report, "boot.small").outcome == "error"


@pytest.mark.parametrize(
    ("report", "name", "remedy"),
    [
        (examples.clean_report(), None, "name another run"),
        (examples.mixed_report(), "prefix-cache-level1.prefix-cache-off", "name another run"),
        (examples.mixed_report(), "boot.smal", "did you mean 'boot.small'?"),
    ],
)
def test_there_must_be_something_to_report(report: Report, name: str | None, remedy: str) -> None:
    """A clean cell is no bug, and a name that is wrong is told."""
    with pytest.raises(UsageError) as refused:
        choose_cell(report, name)
    assert refused.value.remedy == remedy


def test_nothing_private_is_in_any_file(run: Path, tmp_path: Path) -> None:
    """Neither in what is written anew nor in what is copied; the history can still be read."""
    report = failed_report()
    written = write_bug_report(
        report, report.cells[0], run_directory=run, out=tmp_path / "out", private=PRIVATE
    )
    assert {"ISSUE.md", "report.html", "history.jsonl", "server.log", "run.json"} <= set(written.files)
    assert sorted(written.files) == sorted(path.name for path in (tmp_path / "out").iterdir())
    for path in (tmp_path / "out").iterdir():
        text = path.read_text(encoding="utf-8")
        for private in ("gpu-box-7", "abcdefgh12", "/data/alice", "corp.example"):
            assert private not in text, f"{private} in {path.name}"
    ended_with = read_description(tmp_path / "out").histories[report.cells[0].result.cell]
    failure = load_recording(tmp_path / "out", ended_with=ended_with).failure
    assert failure
    assert "~/.venv/bin/python on <host> said HF_TOKEN=***" in failure.cause + failure.log_tail


def test_the_scripts_are_written_where_answers_are_known(tmp_path: Path) -> None:
    """``repro.sh`` can be run as it is."""
    report = examples.mixed_report()
    cell = choose_cell(report, None)
    folder = cell_folder(tmp_path, cell.result.cell)
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text("{}\n")
    written = write_bug_report(report, cell, run_directory=tmp_path, out=tmp_path / "out", private=PRIVATE)
    assert {"repro.py", "repro.sh", "test_repro.py"} <= set(written.files)
    assert os.access(tmp_path / "out" / "repro.sh", os.X_OK)
    assert (tmp_path / "out" / "repro.py").read_text() in (tmp_path / "out" / "ISSUE.md").read_text()


def test_the_verdict_is_that_of_the_reported_cell(run: Path, tmp_path: Path) -> None:
    """Other cells of the run do not colour it: its report and its verdict.json are about one cell."""
    recorded = {"boot.small": examples.failed_recording()}
    report = assemble(examples.result_of(examples.corrupt_cell(), examples.failed_cell()), recorded)
    cell = choose_cell(report, "boot.small")
    write_bug_report(report, cell, run_directory=run, out=tmp_path / "out", private=PRIVATE)
    told = RunResult.model_validate_json((tmp_path / "out" / "verdict.json").read_bytes())
    assert (told.verdict, told.exit_code) == (None, ExitCode.INFRASTRUCTURE)
    assert "<title>error: " in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_log_of_a_shared_server_is_where_it_was_booted(tmp_path: Path) -> None:
    """A cell that went on with another's server has no log of its own; its report has one."""
    mixed = examples.mixed_report()
    cell = choose_cell(mixed, None)
    assert cell.recording
    assert cell.recording.server
    server = cell.recording.server.model_copy(update={"shared_with": ("boot.small",)})
    cell = replace(cell, recording=replace(cell.recording, server=server))
    for name, file in ((cell.result.cell, "history.jsonl"), ("boot.small", "server.log")):
        folder = cell_folder(tmp_path, name)
        folder.mkdir(parents=True)
        (folder / file).write_text("INFO started\n")
    written = write_bug_report(mixed, cell, run_directory=tmp_path, out=tmp_path / "out", private=PRIVATE)
    assert "server.log" in written.files
    assert (tmp_path / "out" / "server.log").read_text() == "INFO started\n"
    assert "Timeline" in (page := (tmp_path / "out" / "report.html").read_text())
    assert "booted for boot.small" in page
