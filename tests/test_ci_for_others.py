"""The action and the workflows for other repositories: what they run is run here, what they use is pinned."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.action_steps import ACTION, ROOT, Runner, bare_environment

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RUN = "Sleep, wake up, compare"

_PROGRAM = """\
#!/usr/bin/env bash
printf '%s\\n' "$@" > words
if [ -n "${VERDICT:-}" ]; then
    mkdir -p reports/run
    printf '{"verdict": "%s"}' "$VERDICT" > reports/run/verdict.json
    ln -sfn run reports/latest
fi
exit "${CODE:-0}"
"""


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """One on which a program stands in for sleepwake: it writes down its words and ends as told."""
    (tmp_path / "work").mkdir()
    programs = tmp_path / "temp" / "sleepwake" / "bin"
    programs.mkdir(parents=True)
    (programs / "sleepwake").write_text(_PROGRAM)
    (programs / "sleepwake").chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    return Runner(work=tmp_path / "work", temp=tmp_path / "temp", environ=bare_environment())


def _told(runner: Runner, **variables: str) -> Runner:
    return Runner(work=runner.work, temp=runner.temp, environ={**runner.environ, **variables})


def test_inputs_become_options_word_for_word(runner: Runner) -> None:
    """Whatever stands in them is one word each: no shell reads it."""
    hostile = "$(touch stolen) `touch stolen`; 'x y'"
    done = runner.step(
        RUN, image="i:1", model=hostile, scenarios="a b.yaml\nfirst-look\n", shard="1/2", args="-k\nlevel1"
    )
    assert done.code == 0, done.output
    words = (runner.work / "words").read_text().splitlines()
    asked = ["--image", "i:1", "--model", hostile, "--shard", "1/2", "-k", "level1"]
    assert words == ["run", "--out", "reports", *asked, "a b.yaml", "first-look"]
    assert not (runner.work / "stolen").exists()


def test_without_inputs_the_default_scenarios_run(runner: Runner) -> None:
    """No empty word is handed on."""
    assert runner.step(RUN).code == 0
    assert (runner.work / "words").read_text().splitlines() == ["run", "--out", "reports"]


@pytest.mark.parametrize(
    ("code", "inputs", "ends", "says"),
    [
        (0, {}, 0, ""),
        (1, {}, 1, ""),
        (2, {}, 2, ""),
        (3, {}, 0, "::warning title=sleepwake::inconclusive"),
        (3, {"inconclusive": "fail"}, 3, ""),
        (4, {}, 4, "::error title=sleepwake::infrastructure"),
        (4, {"infrastructure": "warn"}, 0, "::warning title=sleepwake::infrastructure"),
        (70, {"inconclusive": "warn", "infrastructure": "warn"}, 70, ""),
    ],
)
def test_doubt_and_trouble_are_told_from_failure(
    code: int, inputs: dict[str, str], ends: int, says: str, runner: Runner
) -> None:
    """The job ends as the inputs say; the code itself is an output in any case."""
    done = _told(runner, CODE=str(code)).step(RUN, **inputs)
    assert done.code == ends
    assert done.outputs["exit-code"] == str(code)
    assert says in done.output
    assert ("::" in done.output) == bool(says)


def test_the_verdict_and_the_run_are_outputs(runner: Runner) -> None:
    """Of this call alone: a run that was there before is not taken for it."""
    done = _told(runner, VERDICT="corrupt", CODE="1").step(RUN)
    assert done.outputs == {
        "exit-code": "1",
        "verdict": "corrupt",
        "directory": str(runner.work / "reports" / "run"),
    }
    done = _told(runner, CODE="4").step(RUN)
    assert (done.outputs["verdict"], done.outputs["directory"]) == ("", "")


def test_a_choice_that_is_none_is_refused(runner: Runner) -> None:
    """A slip of the fingers must not hide failures."""
    done = runner.step(RUN, inconclusive="ignore")
    assert done.code == 2
    assert "inconclusive is fail or warn" in done.output
    assert not (runner.work / "words").exists()


def test_cleaning_up_needs_no_installation(runner: Runner) -> None:
    """Where the first step has failed there is nothing to clean."""
    assert runner.step("Leave nothing behind").code == 0
    assert (runner.work / "words").read_text() == "clean\n"
    (runner.temp / "sleepwake" / "bin" / "sleepwake").unlink()
    assert runner.step("Leave nothing behind").code == 0


def test_no_script_is_made_of_inputs() -> None:
    """They come by the environment, so that none of them is read as a part of the script."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("file", [ROOT / "action.yml", *WORKFLOWS], ids=lambda file: file.name)
def test_what_is_used_is_pinned(file: Path) -> None:
    """By digest, with the release beside it; what lies in this repository is pinned with it."""
    for used in re.findall(r"uses: (.+)", file.read_text(encoding="utf-8")):
        assert re.fullmatch(r"(\S+@[0-9a-f]{40} # v[\d.]+|\./\S+)", used), used


def test_the_workflow_asks_the_action_only_what_it_knows() -> None:
    """Every input that is handed on exists on both sides."""
    workflow = YAML(typ="safe").load((ROOT / ".github" / "workflows" / "verdict.yml").read_text())
    inputs = workflow.get("on", workflow.get(True))["workflow_call"]["inputs"]
    (call,) = (step for step in workflow["jobs"]["verdict"]["steps"] if step.get("uses") == "./.sleepwake")
    assert set(call["with"]) <= set(ACTION["inputs"])
    named = set(re.findall(r"inputs\.([\w-]+)", json.dumps(workflow["jobs"])))
    assert named == set(inputs)


@pytest.mark.parametrize(
    ("vllm", "shard", "name"),
    [("", "", "sleepwake"), ("0.10.1", "", "sleepwake-0.10.1"), ("0.10.1", "1/2", "sleepwake-0.10.1-1-2")],
)
def test_every_job_of_the_workflow_keeps_its_report_under_a_name_of_its_own(
    vllm: str, shard: str, name: str, tmp_path: Path
) -> None:
    """Release and shard, where there are any, without what the name of an artefact may not have."""
    workflow = YAML(typ="safe").load((ROOT / ".github" / "workflows" / "verdict.yml").read_text())
    (step,) = (step for step in workflow["jobs"]["verdict"]["steps"] if step.get("id") == "name")
    parts = step["env"]["PARTS"].replace("${{ matrix.vllm }}", vllm).replace("${{ matrix.shard }}", shard)
    told = {"PARTS": parts, "GITHUB_OUTPUT": str(tmp_path / "outputs")}
    subprocess.run(["/bin/bash", "-e", "-c", step["run"]], env={**bare_environment(), **told}, check=True)
    assert (tmp_path / "outputs").read_text() == f"name={name}\n"


def _version(tag: str, *, changelog: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Check a tag in a tree with such a changelog."""
    for name, text in (("harness/__init__.py", '__version__ = "1.2.3"\n'), ("CHANGELOG.md", changelog)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    script = folder / ".ci" / "release-version"
    script.parent.mkdir()
    script.write_text((ROOT / ".ci" / "release-version").read_text())
    return subprocess.run([sys.executable, str(script), tag], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("tag", "changelog", "message"),
    [
        ("v1.2.3", "## [1.2.3] - 2026-01-31\n", ""),
        ("v1.2.4", "## [1.2.4] - 2026-01-31\n", "harness/__init__.py says 1.2.3"),
        ("v1.2.3", "## [Unreleased]\n", "no heading `## [1.2.3] - YYYY-MM-DD`"),
    ],
)
def test_a_tag_is_released_only_as_what_it_is(tag: str, changelog: str, message: str, tmp_path: Path) -> None:
    """The version of the code, with its entry in the changelog."""
    done = _version(tag, changelog=changelog, folder=tmp_path)
    assert (done.returncode == 0) == (not message)
    assert message in done.stderr


def test_the_examples_ask_only_what_there_is() -> None:
    """Every YAML example can be read, and hands the action and the workflow inputs that they have."""
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    workflow = YAML(typ="safe").load((ROOT / ".github" / "workflows" / "verdict.yml").read_text())
    of_workflow = set(workflow.get("on", workflow.get(True))["workflow_call"]["inputs"])
    action, called, gitlab = (
        YAML(typ="safe").load(text) for text in re.findall(r"```yaml\n(.+?)```", page, flags=re.DOTALL)
    )
    assert set(action["jobs"]["sleepwake"]["steps"][1]["with"]) <= set(ACTION["inputs"])
    assert set(called["jobs"]["sleepwake"]["with"]) <= of_workflow
    assert gitlab["sleepwake"]["allow_failure"] == {"exit_codes": [3, 4]}
    described = set(
        re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\| (`.+?) \|", page, flags=re.MULTILINE)))
    )
    assert set(ACTION["inputs"]) <= described
