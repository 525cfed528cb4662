"""Taking a run up again, as a user does: through the command."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from harness import workflow
from harness.cli import call
from harness.errors import ExitCode
from harness.history.layout import cell_folder, earlier_histories
from harness.history.recording import load_history, load_recording
from harness.servers.base import Server, ServerSpec
from harness.servers.select import Choice
from tests import small_scenario
from tests.fake_vllm.in_process import InProcessRuntime, install
from tests.small_scenario import write_scenario

SCENARIO = small_scenario.SCENARIO.replace(
    "arms: {only: {args: [--enable-prefix-caching]}}",
    """\
arms:
  first: {args: [--enable-prefix-caching]}
  second: {args: [--enable-prefix-caching], env: {SLEEPWAKE_FAULT: keep-prefix-cache}}
  third: {args: [--enable-prefix-caching]}
  fourth: {args: [--no-enable-prefix-caching]}""",
)
CELLS = ["small.first", "small.second", "small.third", "small.fourth"]


class Interruptible(InProcessRuntime):
    """Fakes in this process; the user presses Ctrl-C while the server of one cell starts."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[str] = []
        self.interrupted_at: str | None = None

    @asynccontextmanager
    async def start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        """Start it, or be interrupted instead."""
        self.started.append(spec.cell)
        if spec.cell == self.interrupted_at:
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep_forever()
        async with super().start(spec) as server:
            yield server


@pytest.fixture
def runtime(here: Path, monkeypatch: pytest.MonkeyPatch) -> Interruptible:
    """What every run gets; its scenario has four cells."""
    write_scenario(here, SCENARIO)
    runtime = Interruptible()
    install(runtime, monkeypatch)
    monkeypatch.setattr(workflow, "choose", lambda _: Choice(runtime=runtime, reason="for the test"))
    return runtime


@pytest.fixture
def run(runtime: Interruptible, toy_model_folder: Path) -> Callable[[], tuple[int, list[str]]]:
    """Run all four cells, each on a server of its own; return the exit code and the cells of those."""

    def begin() -> tuple[int, list[str]]:
        code = call(["run", "scenarios/small.yaml", "--isolate", "--model", str(toy_model_folder)])
        return code, runtime.started

    return begin


@pytest.mark.cell
def test_a_run_interrupted_after_two_of_four_cells_runs_the_other_two(
    run: Callable[[], tuple[int, list[str]]], runtime: Interruptible, capsys: pytest.CaptureFixture[str]
) -> None:
    """The corrupt second cell is a failure, not an error: it is kept; in the end all four have a verdict."""
    runtime.interrupted_at = "small.third"
    assert run() == (ExitCode.INTERRUPTED, CELLS[:3])
    directory = Path("reports/latest").readlink()
    assert f"`sleepwake run --resume reports/{directory}` carries on" in capsys.readouterr().out

    runtime.interrupted_at, runtime.started = None, []
    assert call(["run", "--resume", "reports/latest"]) == ExitCode.CORRUPT_OR_DEGRADED
    assert runtime.started == CELLS[2:]
    assert "kept: 2 cells with a verdict\n" in capsys.readouterr().out
    cells = json.loads(Path("reports/latest/verdict.json").read_text())["cells"]
    assert [cell["verdict"] for cell in cells] == ["clean", "corrupt", "clean", "clean"]

    description = json.loads(Path("reports/latest/run.json").read_text())
    assert description["interrupted"] is False
    assert description["resumed"][0]["cells"] == CELLS[2:]
    assert sorted(description["servers"]) == sorted(CELLS)

    folder = cell_folder(Path("reports/latest"), "small.third")
    (earlier,) = map(load_history, earlier_histories(folder))
    assert earlier.failure, "what the interrupted attempt recorded stays readable"
    assert earlier.failure.interrupted
    assert load_recording(folder).finished


@pytest.mark.cell
def test_resuming_a_finished_run_starts_nothing_but_what_was_cut_off(
    run: Callable[[], tuple[int, list[str]]], runtime: Interruptible, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so and repeats the verdict; a cell that a killed harness left half done is run again."""
    Path("scenarios/small.yaml").write_text(re.sub(r"(?m)^  (first|third|fourth):.*\n", "", SCENARIO))
    assert run() == (ExitCode.CORRUPT_OR_DEGRADED, ["small.second"])
    capsys.readouterr()
    assert call(["run", "--resume", "reports/latest"]) == ExitCode.CORRUPT_OR_DEGRADED
    output = capsys.readouterr().out
    assert runtime.started == ["small.second"]
    assert output.startswith("nothing to run: 1 cell with a verdict")
    assert output.strip().splitlines()[-1].startswith("report: ")

    history = cell_folder(Path("reports/latest"), "small.second") / "history.jsonl"
    history.write_bytes(b"".join(history.read_bytes().splitlines(keepends=True)[:8]))
    call(["run", "--resume", "reports/latest"])
    assert runtime.started == ["small.second", "small.second"]


def test_what_contradicts_the_run_is_refused(
    run: Callable[[], tuple[int, list[str]]], runtime: Interruptible, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells of one run must have been asked the same: exit 2, and nothing is touched."""
    runtime.interrupted_at = "small.first"
    run()
    for arguments, says in (
        (["--fault", "lose-weights"], "--fault lose-weights; the run has none"),
        (["--vllm-arg=--block-size=64"], "--vllm-arg --block-size=64; the run has none"),
        (["scenarios/other.yaml"], "the scenario paths scenarios/other.yaml"),
    ):
        assert call(["run", "--resume", "reports/latest", *arguments]) == ExitCode.USAGE
        assert says in capsys.readouterr().err
    assert not earlier_histories(cell_folder(Path("reports/latest"), "small.first"))


def test_a_run_that_goes_on_elsewhere_is_left_alone(
    run: Callable[[], tuple[int, list[str]]], runtime: Interruptible, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two harnesses in one run directory would set each other's histories aside."""
    runtime.interrupted_at = "small.first"
    run()
    other_harness = os.open("reports/latest", os.O_RDONLY)
    fcntl.flock(other_harness, fcntl.LOCK_EX)
    try:
        assert call(["run", "--resume", "reports/latest"]) == ExitCode.USAGE
    finally:
        os.close(other_harness)
    assert "another sleepwake is working on this run" in capsys.readouterr().err
    assert runtime.started == ["small.first"]


def test_secrets_are_not_stored_and_so_cannot_be_resumed(
    runtime: Interruptible, toy_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was given as a secret is nowhere on disk; carrying on without it would be another run."""
    runtime.interrupted_at = "small.first"
    model = ["--model", str(toy_model_folder)]
    call(["run", "scenarios/small.yaml", *model, "--vllm-arg=--hf-token=abcdefgh12"])
    assert "abcdefgh12" not in Path("reports/latest/run.json").read_text()
    assert call(["run", "--resume", "reports/latest"]) == ExitCode.USAGE
    assert "was given a secret" in capsys.readouterr().err


def test_a_scenario_that_was_changed_is_refused(
    run: Callable[[], tuple[int, list[str]]], runtime: Interruptible, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other prompts or another script make another run; a comment in the file does not."""
    runtime.interrupted_at = "small.first"
    run()
    file, corpus = Path("scenarios/small.yaml"), Path("scenarios/corpora/words.yaml")
    file.write_text(f"# the same\n{SCENARIO}")
    assert call(["run", "--resume", "reports/latest", "--list"]) == ExitCode.CLEAN
    assert capsys.readouterr().out.split()[-4:] == CELLS
    file.write_text(SCENARIO.replace("max_tokens: 16", "max_tokens: 17"))
    assert call(["run", "--resume", "reports/latest"]) == ExitCode.USAGE
    file.write_text(SCENARIO)
    corpus.write_text(corpus.read_text().replace("music", "noise"))
    assert call(["run", "--resume", "reports/latest"]) == ExitCode.USAGE
    assert "has changed since" in capsys.readouterr().err
