"""The commands as a user meets them: output, exit codes, and what is left on disk."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import httpx
import pytest

from harness import workflow
from harness.cli import call
from harness.cli.application import app
from harness.cli.concluding import conclude
from harness.cli.shared import new_console
from harness.errors import ExitCode
from harness.history.run_description import read_description, write_description
from harness.runs.options import RunOptions
from harness.scenario.schema import Scenario
from harness.servers.attached import AttachedRuntime
from harness.servers.owner import Owner
from harness.servers.process.runtime import ProcessRuntime
from harness.servers.select import Choice
from tests.conftest import settle_in
from tests.fake_vllm.behaviours import Behaviour, Fault, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.small_scenario import SCENARIO

KEEPS_BLOCKS = Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE}))
"""The founding bug."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run of the small scenario that several tests read: how it ended, what it said, what it left."""

    code: int
    output: str
    reports: Path

    def copy_to(self, reports: Path) -> Path:
        """Put the run into another folder of reports; return its directory."""
        shutil.copytree(self.reports, reports, symlinks=True)
        return reports / "latest"


def ran(folder: Path, misbehaviour: Misbehaviour | None = None) -> Ran:
    """Run it once on a server that is gone afterwards."""
    server, output = Served(), StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, redirect_stdout(output):
        settle_in(folder, monkeypatch)
        code = call(["run", "--endpoint", server.start(misbehaviour)])
    server.stop()
    return Ran(code=code, output=output.getvalue(), reports=folder / "reports")


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of a healthy server."""
    return ran(tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run of a server that has the founding bug."""
    return ran(tmp_path_factory.mktemp("faulty"), KEEPS_BLOCKS)


def test_a_clean_run_ends_with_zero_and_a_report(healthy: Ran) -> None:
    """The last line names the report, and the run directory holds everything it should."""
    assert healthy.code == ExitCode.CLEAN, healthy.output
    assert healthy.output.strip().splitlines()[-1].startswith("report: ")
    run = healthy.reports / "latest"
    assert {path.name for path in run.iterdir()} == {
        "run.json",
        "cells",
        "verdict.json",
        "junit.xml",
        "summary.md",
        "report.html",
    }
    assert json.loads((run / "verdict.json").read_text())["verdict"] == "clean"
    assert json.loads((run / "run.json").read_text())["interrupted"] is False


def test_a_history_that_lost_its_end_is_not_judged(
    healthy: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run says how each history ended; a clean cell without its last line is no clean cell."""
    run = shutil.copytree(healthy.reports / "latest", tmp_path / "run")
    [(cell, ended_with)] = json.loads((run / "run.json").read_text())["histories"].items()
    history = run / "cells" / cell / "history.jsonl"
    lines = history.read_text().splitlines(keepends=True)
    assert ended_with in lines[-1]
    assert call(["check", str(run)]) == ExitCode.CLEAN
    history.write_text("".join(lines[:-1]))
    assert call(["check", str(run)]) == ExitCode.USAGE
    assert "lost its end" in capsys.readouterr().err


def test_output_off_a_terminal_is_plain(healthy: Ran) -> None:
    """A log gets lines without escape codes, one a step."""
    assert "\x1b" not in healthy.output
    assert "sleep level=1" in healthy.output


def test_a_corrupt_run_ends_with_one_and_names_the_cause(faulty: Ran) -> None:
    """The founding bug in an attached server: exit 1, cause and witness on the screen and in verdict.json."""
    assert faulty.code == ExitCode.CORRUPT_OR_DEGRADED, faulty.output
    assert "stale prefix cache" in faulty.output
    cell = json.loads((faulty.reports / "latest" / "verdict.json").read_text())["cells"][0]
    assert (cell["verdict"], cell["cause"]) == ("corrupt", "stale prefix cache")


@pytest.mark.cell
def test_a_run_ends_with_its_first_corrupt_cell_when_asked_to(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was not begun says so, and the exit code is that of the corrupt cell."""
    end_with_the_first(here, served.start(KEEPS_BLOCKS))
    assert sorted(cells_of_latest(here).values(), key=str) == [None, "corrupt"]
    assert "(--exit-first)" in capsys.readouterr().out


@pytest.mark.cell
def test_resuming_a_run_that_ended_with_its_first_corrupt_cell_runs_the_rest(
    here: Path, served: Served
) -> None:
    """It is not asked again to end with the first."""
    endpoint = served.start(KEEPS_BLOCKS)
    end_with_the_first(here, endpoint)
    assert call(["run", "--resume", "latest", "--endpoint", endpoint]) == ExitCode.CORRUPT_OR_DEGRADED
    assert cells_of_latest(here) == {"small": "corrupt", "small-again": "corrupt"}


def end_with_the_first(here: Path, endpoint: str) -> None:
    """Run two corrupt cells with --exit-first."""
    (here / "scenarios" / "again.yaml").write_text(SCENARIO.replace("name: small", "name: small-again"))
    assert call(["run", "-x", "scenarios", "--endpoint", endpoint]) == ExitCode.CORRUPT_OR_DEGRADED


def cells_of_latest(here: Path) -> dict[str, str | None]:
    """Each scenario's verdict."""
    verdict = json.loads((here / "reports" / "latest" / "verdict.json").read_text())
    return {cell["scenario"]: cell["verdict"] for cell in verdict["cells"]}


def test_a_server_that_does_not_answer_is_infrastructure(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens at the endpoint: exit 4, in words, and no verdict."""
    code = call(["run", "--endpoint", "http://127.0.0.1:9"])
    assert code == ExitCode.INFRASTRUCTURE, capsys.readouterr()
    assert here.exists()


@pytest.mark.cell
def test_a_baseline_that_never_answers_is_inconclusive(here: Path, served: Served) -> None:
    """Without a baseline there is nothing to compare with: exit 3.

    The deadline is short because none of them would ever answer: no slow machine makes it fail.
    """
    impatient = SCENARIO.replace("answer: 30", "answer: 0.1").replace("script:", "evidence: [warm]\nscript:")
    (here / "scenarios" / "small.yaml").write_text(impatient)
    code = call(["run", "--endpoint", served.start(Misbehaviour({Behaviour.HANG: 0}))])
    assert code == ExitCode.INCONCLUSIVE


def test_checking_repeats_the_verdict_without_a_server(
    here: Path, faulty: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sleepwake check` reads the history alone, and says the same; its page is not drawn once more."""
    run = faulty.copy_to(here / "reports")
    before = (run / "verdict.json").read_text()
    drawn = (run / "report.html").stat().st_mtime_ns
    assert call(["check", "reports/latest"]) == faulty.code == ExitCode.CORRUPT_OR_DEGRADED
    assert (run / "verdict.json").read_text() == before
    assert (run / "report.html").stat().st_mtime_ns == drawn
    assert "stale prefix cache" in capsys.readouterr().out


def test_checking_a_run_that_was_cut_short_never_says_clean(here: Path, healthy: Ran) -> None:
    """A history cut in the middle of a line is read up to there, and is inconclusive; so says its page."""
    run = healthy.copy_to(here / "reports")
    # A harness that is killed has not written how the history ended.
    write_description(run, read_description(run).model_copy(update={"histories": {}}))
    history = next((run / "cells").glob("*/history.jsonl"))
    content = history.read_bytes()
    history.write_bytes(content[: len(content) // 2])
    assert call(["check"]) == ExitCode.INCONCLUSIVE
    assert "<title>inconclusive: " in (run / "report.html").read_text()


def test_checking_imports_neither_torch_nor_vllm(here: Path, healthy: Ran) -> None:
    """Judging works on a laptop: no engine is imported, and no container library either."""
    healthy.copy_to(here / "reports")
    program = (
        "import sys; from harness.cli import call; code = call(['check']);"
        "print(sorted({'torch', 'vllm', 'docker', 'openai'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == ExitCode.CLEAN, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_two_runs_are_set_side_by_side(
    here: Path, healthy: Ran, faulty: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sleepwake compare` names the verdict that changed, in lines, Markdown and HTML, and ends with 0."""
    healthy.copy_to(here / "healthy")
    faulty.copy_to(here / "faulty")
    both = ["compare", "healthy/latest", "faulty/latest"]
    assert call([*both, "--html", "both.html"]) == ExitCode.CLEAN
    output = capsys.readouterr().out
    assert output.startswith("1 of 1 verdict changed: 1 worse.")
    assert "corrupt (stale prefix cache)  worse" in output
    assert "1 of 1 verdict changed: 1 worse." in (here / "both.html").read_text()
    assert call([*both, "--fail-on", "worse"]) == ExitCode.CORRUPT_OR_DEGRADED
    assert call(["pin", "healthy/latest"]) == ExitCode.CLEAN
    assert call(["compare", "faulty/latest", "pinned", "--fail-on", "worse"]) == ExitCode.CLEAN
    assert call(["compare", "pinned", "faulty/latest", "--fail-on", "changed"]) == 1
    capsys.readouterr()
    assert call([*both, "--markdown"]) == ExitCode.CLEAN
    assert "| small.only | clean | corrupt (stale prefix cache) | worse |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "scenarios/smal.yaml"], "did you mean"),
        (["run", "--arm", "onyl"], "did you mean 'only'"),
        (["run", "--fault", "keep-prefx-cache"], "did you mean 'keep-prefix-cache'"),
        (["run", "--fault", "nowhere.py:f"], "No such file"),
        (["run", "-k", "and"], "-k"),
        (["run", "--runtime", "dokcer"], "docker"),
        (["run", "--smoke", "scenarios/small.yaml"], "leave out the paths, or --smoke"),
        (["run", "--lst"], "--list"),
        (["run", "--list", "--runtime", "attached"], "give --endpoint"),
        (["run", "--list", "--vllm", "0.10.0", "--image", "x"], "give --vllm or --image"),
        (["run", "--list", "--endpoint", "nowhere"], "give http://host:port"),
        (["run", "--list", "--model", "./nowhere"], "is not a model folder"),
        (["run", "--list", "--resource", "GPU=1"], "add --executor ray"),
        (["run", "--list", "--fault", "lose-adapters"], "loads no adapter"),
        (["chekc"], "check"),
        (["compare", "a", "b", "--fail-on", "wrose"], "worse"),
        (["check", "nowhere"], "no run here"),
        (["compare", "nowhere", "elsewhere"], "no run here"),
        (["bug-report", "nowhere"], "no run here"),
        (["run", "--model", "./nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_with_two_before_anything_starts(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    """A wrong option, name or file: exit 2, what is wrong and what to do, and no run directory."""
    assert call(arguments) == ExitCode.USAGE
    assert says in "".join(capsys.readouterr())
    assert not (here / "reports").exists()


def test_a_wrong_scenario_is_located(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The place is file:line:column, as editors understand it."""
    (here / "scenarios" / "small.yaml").write_text(SCENARIO.replace("sleep: {}", "sleep: {level: 7}"))
    assert call(["run"]) == ExitCode.USAGE
    assert "small.yaml:11:13:" in capsys.readouterr().err


def test_listing_names_the_cells_and_starts_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One cell a line, ready for other programs."""
    assert call(["run", "--list"]) == ExitCode.CLEAN
    assert capsys.readouterr().out == "small.only\n"
    assert not (here / "reports").exists()


def test_a_dry_run_prints_the_command_of_every_server_and_starts_nothing(
    here: Path,
    fake_engine_command: tuple[str, ...],
    toy_model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each can be pasted into a shell: the flags of its arm, those asked for, and no secret."""
    runtime = ProcessRuntime(engine_command=fake_engine_command, engine="cpu")
    monkeypatch.setattr(workflow, "choose", lambda _: Choice(runtime=runtime, reason="for the test"))
    flags = ["--vllm-arg=--block-size=64", "--vllm-arg=--hf-token=abcdefgh12"]
    assert call(["run", "--dry-run", "--model", str(toy_model_folder), *flags]) == ExitCode.CLEAN
    cell, command = capsys.readouterr().out.splitlines()
    assert cell == "# small.only"
    words = shlex.split(command)
    assert {*fake_engine_command, "--enable-prefix-caching", str(toy_model_folder)} <= set(words)
    assert ("--block-size=64" in words) or words[words.index("--block-size") + 1] == "64"
    assert "abcdefgh12" not in command
    assert not (here / "reports").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands_and_options(shell: Literal["bash", "zsh", "fish"]) -> None:
    """What completes them knows the commands and the options of each."""
    script = app.generate_completion(shell=shell)
    for word in ("bug-report", "resume", "keep-servers", "markdown"):
        assert word in script


NEEDS_A_GPU = SCENARIO.replace("name: small", "name: graphs\nrequires: gpu")


def test_what_needs_a_gpu_is_marked_and_left_out(
    here: Path, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list marks it; on a CPU engine it cannot run, and the reason is said."""
    (here / "scenarios" / "graphs.yaml").write_text(NEEDS_A_GPU)
    assert call(["run", "--list"]) == ExitCode.CLEAN
    assert capsys.readouterr().out == "graphs.only  (needs a GPU)\nsmall.only\n"
    monkeypatch.setattr(AttachedRuntime, "engine", "cpu")
    endpoint = served.start()
    assert call(["run", "--endpoint", endpoint, "-k", "graphs"]) == ExitCode.USAGE
    assert "no cell can run: graphs.only needs a GPU" in capsys.readouterr().err


@pytest.mark.cell
def test_a_run_is_of_what_needs_no_gpu_where_there_is_none(
    here: Path, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says which cells are missing."""
    (here / "scenarios" / "graphs.yaml").write_text(NEEDS_A_GPU)
    monkeypatch.setattr(AttachedRuntime, "engine", "cpu")
    assert call(["run", "--endpoint", served.start()]) == ExitCode.CLEAN
    output = capsys.readouterr().out
    assert "left out: graphs.only needs a GPU, but the engine here runs on a CPU\n" in output
    assert [path.name for path in (here / "reports" / "latest" / "cells").iterdir()] == ["small.only"]


@pytest.mark.cell
def test_a_bug_report_shows_the_bug_again(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its repro.py diverges on the server that was corrupt and matches on a healthy one."""
    faulty = served.start(KEEPS_BLOCKS)
    call(["run", "--endpoint", faulty])
    capsys.readouterr()
    assert call(["bug-report", "--out", "bug"]) == ExitCode.CLEAN
    assert capsys.readouterr().out.splitlines()[-1] == "bug report: bug"
    ends = [
        subprocess.run(
            [sys.executable, "bug/repro.py", url], cwd=here, capture_output=True, text=True, check=False
        )
        for url in (faulty, served.start())
    ]
    assert [(end.returncode, end.stdout.splitlines()[-1].split(":")[0]) for end in ends] == [
        (1, "DIVERGED"),
        (0, "MATCH"),
    ]


def test_a_job_on_github_gets_annotations_and_a_summary(
    here: Path, faulty: Ran, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends so where GitHub Actions says it runs; nothing it prints can be taken for a command."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(here / "summary"))
    faulty.copy_to(here / "reports")
    assert conclude(Path("reports/latest"), new_console()) == faulty.code
    output = capsys.readouterr().out
    assert "::error title=small / only%3A corrupt (stale prefix cache),file=scenarios/small.yaml::" in output
    assert output.index("::stop-commands::") < output.index("sleepwake: corrupt")
    assert (here / "summary").read_text() == (here / "reports" / "latest" / "summary.md").read_text()


# The runtime lets go of a process that runs on: that is what is asked for.
@pytest.mark.cell
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("here")
def test_kept_servers_are_named_and_cleaned_up(
    fake_engine_command: tuple[str, ...],
    toy_model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With --keep-servers the run says where the server still answers; `sleepwake clean` ends it."""

    def choose(options: RunOptions) -> Choice:
        keep = options.keep_servers
        runtime = ProcessRuntime(engine_command=fake_engine_command, engine="cpu", keep=keep)
        return Choice(runtime=runtime, reason="for the test")

    monkeypatch.setattr(workflow, "choose", choose)
    call(["run", "--keep-servers", "--model", str(toy_model_folder)])
    told = re.search(
        r"small\.only still answers at (\S+); `kill \d+` or `sleepwake clean`", capsys.readouterr().out
    )
    assert told
    assert httpx.get(f"{told[1]}/health", trust_env=False).is_success
    monkeypatch.setattr(Owner, "is_dead", lambda _: True)  # as it is once the command has ended
    assert call(["clean"]) == ExitCode.CLEAN
    assert "of cell small.only" in capsys.readouterr().out
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{told[1]}/health", trust_env=False)


def test_history_lists_runs_and_says_when_there_are_none(
    here: Path, healthy: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a run under the headings; before the first run a sentence."""
    assert call(["history"]) == ExitCode.CLEAN
    assert capsys.readouterr().out == "no run in reports\n"
    latest = healthy.copy_to(here / "reports")
    assert call(["history"]) == ExitCode.CLEAN
    heading, run, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "started", "runtime", "vLLM", "cells", "verdict"]
    assert run.split()[0] == latest.resolve().name
    assert run.split()[3:] == ["attached", "0.32.0", "1", "clean", "clean"]


def test_the_scenario_schema_is_published(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sleepwake schema` prints what the models say."""
    assert call(["schema", "scenario"]) == ExitCode.CLEAN
    assert json.loads(capsys.readouterr().out) == Scenario.model_json_schema()
    assert here.exists()


def test_cleaning_nothing_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sleepwake clean` on a clean machine is a success that says there was nothing to do."""
    assert call(["clean"]) == ExitCode.CLEAN
    assert capsys.readouterr().out
    assert here.exists()


@pytest.mark.parametrize(
    "word", ["schema", *(pytest.param(word, marks=pytest.mark.cell) for word in ("check", "history"))]
)
def test_a_reader_that_leaves_changes_no_exit_code(here: Path, healthy: Ran, word: str) -> None:
    """`sleepwake check | head` ends as without `head`, and complains of nothing."""
    healthy.copy_to(here / "reports")
    nobody, output = os.pipe()
    os.close(nobody)
    program = [sys.executable, "-c", "from harness.cli import main; main()", word]
    done = subprocess.run(program, cwd=here, stdout=output, stderr=subprocess.PIPE, check=False)
    os.close(output)
    assert (done.returncode, done.stderr) == (ExitCode.CLEAN, b"")


def test_what_a_terminal_cannot_show_is_shown_as_an_escape(here: Path) -> None:
    """A name outside of the output's encoding is no reason to fail."""
    program = [sys.executable, "-c", "from harness.cli import main; main()", "history", "--out", "é"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(program, cwd=here, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (ExitCode.CLEAN, b"no run in \\xe9\n")


def test_importing_the_package_is_cheap() -> None:
    """`import harness` pulls in nothing: it also happens inside the engine's processes."""
    program = (
        "import sys; before = set(sys.modules); import harness; print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['harness']"


def test_a_defect_of_ours_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception nobody foresaw shows its traceback and ends with 70: 1 would mean corrupt."""

    def fail(_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(workflow, "load", fail)

    assert call(["run", "--list"]) == ExitCode.DEFECT
    assert "ZeroDivisionError" in (told := capsys.readouterr().err)
    assert "not a verdict" in told
