"""``sleepwake init``: what it writes can be run, and nothing is ever overwritten."""

from __future__ import annotations

import io
import json
import re
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from harness.cli import call
from harness.errors import ExitCode
from harness.init.presets import all_presets
from harness.scenario.cells import load_cells
from harness.scenario.script import flat_steps
from harness.scenario.steps.lifecycle import Sleep
from harness.scenario.steps.loading import ReloadWeights

URL = "http://127.0.0.1:8000"
SCENARIO = Path("tests/sleep/after_wake.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_server_gets_one_arm_as_it_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scenario can be run as the last line says."""
    assert call(["init", "--endpoint", URL]) == ExitCode.CLEAN
    assert capsys.readouterr().out.endswith(f"now run:\n  sleepwake run tests/sleep --endpoint {URL}\n")
    (cell,) = load_cells([SCENARIO])
    assert cell.id == "after-wake.as-it-runs"
    assert cell.arm.args == ()
    assert (project / "pytest.ini").read_text() == (
        f"[pytest]\nsleepwake_scenarios = tests/sleep\naddopts = --sleepwake-endpoint {URL}\n"
    )


def test_every_preset_is_an_arm(project: Path) -> None:
    """With the flags that stand in the deployment's own files, which an arm may have."""
    presets = all_presets()
    asked = [word for preset in presets for word in ("--preset", preset.name)]
    assert call(["init", "--image", "vllm/vllm-openai:v0.11.0", *asked]) == ExitCode.CLEAN
    cells = load_cells([SCENARIO])
    assert {cell.arm_name: cell.arm for cell in cells} == {preset.name: preset.arm for preset in presets}
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}, \S+", preset.source) for preset in presets)
    assert project.exists()


def test_every_preset_is_cited(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the page about it, and in the list."""
    page = (Path(__file__).parents[2] / "docs" / "init.md").read_text(encoding="utf-8")
    assert call(["init", "--list-presets"]) == ExitCode.CLEAN
    listed = capsys.readouterr().out
    for preset in all_presets():
        repository, _, rest = preset.source.partition("@")
        commit, _, file = rest.partition(", ")
        assert f"https://github.com/{repository}/blob/{commit}/{file}" in page
        assert preset.source in listed
    assert not list(project.iterdir())


def test_an_engine_in_a_program_gets_a_guard(project: Path) -> None:
    """A test that sleeps and wakes as deep as asked, which is Python, and the scenario of the same."""
    assert call(["init", "--llm", "--model", "org/model", "--level", "2"]) == ExitCode.CLEAN
    text = (project / "tests/sleep/test_guard.py").read_text()
    compile(text, "test_guard.py", "exec")
    assert "guard = sleepwake_guard(llm)" in text
    assert "LLM(model='org/model', enable_sleep_mode=True)" in text
    assert 'llm.collective_rpc("reload_weights")' in text
    steps = list(flat_steps(load_cells([SCENARIO])[0].scenario.script))
    assert [step.sleep.level for step in steps if isinstance(step, Sleep)] == [2]
    assert any(isinstance(step, ReloadWeights) for step in steps)


def test_own_prompts_become_a_corpus(project: Path) -> None:
    """Quotes, line breaks and chats survive."""
    chat = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "é"}]}
    lines = (json.dumps('a: "b"\n# c'), json.dumps(chat))
    (project / "mine.jsonl").write_text("\n".join(lines))
    assert call(["init", "--endpoint", URL, "--prompts", "mine.jsonl"]) == ExitCode.CLEAN
    (cell,) = load_cells([SCENARIO])
    first, second = cell.prompts
    assert first.text == 'a: "b"\n# c'
    assert [turn.content for turn in second.chat] == ["x", "é"]


@pytest.mark.parametrize(
    "has", [["--endpoint", "http://[::1]:8000/a?b=c&d"], ["--image", "r/i:1"], ["--llm"]]
)
@pytest.mark.parametrize(
    ("ci", "file"),
    [("github", ".github/workflows/sleepwake.yml"), ("gitlab", ".gitlab/sleepwake.yml")],
)
def test_a_job_is_yaml_and_runs_the_same_command(
    has: list[str], ci: str, file: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It installs no engine, pins what it uses by digest, and calls doubt and trouble no failure."""
    assert call(["init", *has, "--ci", ci]) == ExitCode.CLEAN
    command = capsys.readouterr().out.strip().splitlines()[-1].strip()
    text = (project / file).read_text()
    job = YAML(typ="safe").load(text)["jobs" if ci == "github" else "sleepwake"]
    scripts = [step.get("run", "") for step in job["sleepwake"]["steps"]] if ci == "github" else job["script"]
    assert any(command in script for script in scripts)
    assert "[cpu" not in text
    for used in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", used)
    assert "3)" in text if ci == "github" else job["allow_failure"] == {"exit_codes": [3, 4]}


def test_a_pipeline_for_jenkins(project: Path) -> None:
    """Its braces are balanced, and every quoted block ends."""
    assert call(["init", "--image", "r/i:1", "--ci", "jenkins"]) == ExitCode.CLEAN
    text = (project / "Jenkinsfile.sleepwake").read_text()
    assert text.count("{") == text.count("}")
    assert text.count("'''") % 2 == 0


def test_nothing_is_overwritten(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one file is in the way, none is written."""
    (project / "pytest.ini").symlink_to("nowhere")
    assert call(["init", "--endpoint", URL]) == ExitCode.USAGE
    assert "pytest.ini is there already; nothing was written" in capsys.readouterr().err
    assert [file.name for file in project.iterdir()] == ["pytest.ini"]


def test_settings_that_are_there_are_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines to add are told, in the file's own language."""
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    assert call(["init", "--endpoint", URL]) == ExitCode.CLEAN
    lines = capsys.readouterr().out.partition("add to pyproject.toml:\n")[2].partition("\n\n")[0]
    assert tomllib.loads(lines)["sleepwake_scenarios"] == ["tests/sleep"]
    assert not (project / "pytest.ini").exists()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answers", "arm", "files"),
    [
        (f"{URL}\n\n\n", "as-it-runs", {"pytest.ini", "tests"}),
        ("llm\nm\ngitlab\n", "prefix-cache-on", {"pytest.ini", "tests", ".gitlab"}),
        ("vllm/vllm-openai:v1\nm\nGitHub\n", "prefix-cache-on", {"pytest.ini", "tests", ".github"}),
    ],
)
def test_three_questions_are_enough(
    answers: str, arm: str, files: set[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one has, which model, which CI."""
    monkeypatch.setattr("sys.stdin", _Terminal(answers))
    assert call(["init"]) == ExitCode.CLEAN
    assert load_cells([SCENARIO])[0].arm_name == arm
    assert {file.name for file in project.iterdir()} == files


def test_who_leaves_a_question_open_gets_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-D is no defect of ours, and writes nothing."""
    monkeypatch.setattr("sys.stdin", _Terminal(f"{URL}\n"))
    assert call(["init"]) == ExitCode.USAGE
    assert "there was no answer" in capsys.readouterr().err
    assert not list(project.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nobody is here to be asked"),
        (["--endpoint", URL, "--llm"], "--endpoint and --llm was given"),
        (["--endpoint", "localhost:8000"], "is no address"),
        (["--endpoint", "http://me:secret@host"], "would be written to files"),
        (["--endpoint", URL, "--preset", "trl-colocate"], "has its flags"),
        (["--image", "i", "--preset", "trl-colocated"], "did you mean 'trl-colocate'?"),
        (["--image", "a b"], "is no image"),
        (["--llm", "--model", "a\nb"], "is no model"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is written, with what to do."""
    assert call(["init", *words]) == ExitCode.USAGE
    assert message in capsys.readouterr().err
    assert not list(project.iterdir())
