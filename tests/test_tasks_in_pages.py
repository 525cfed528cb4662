"""The pages for each kind of user, done word for word as far as that takes no real engine."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from harness.cli import call
from harness.errors import ExitCode
from tests.fake_vllm.threads import Served

DOCS = Path(__file__).parents[1] / "docs"
ADDRESS = "http://127.0.0.1:8000"


@pytest.mark.cell
def test_the_tasks_of_who_runs_a_server(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty folder, in order, against a server at another address; what is shown is printed."""
    monkeypatch.chdir(tmp_path)
    endpoint = served.start()
    for block in re.findall(
        r"```console\n(.+?)```", (DOCS / "for_servers.md").read_text(encoding="utf-8"), flags=re.DOTALL
    ):
        shown: list[str] = []
        for_the_shell: list[str] = []
        for line in block.replace(ADDRESS, endpoint).splitlines():
            if line.startswith("$ sleepwake "):
                subprocess.run(["/bin/bash", "-c", "\n".join(for_the_shell)], check=True)
                assert call(shlex.split(line[2:])[1:]) == ExitCode.CLEAN, line
            elif line.startswith(("$ rules=", "$ for ", "> ")):
                for_the_shell.append(line[2:])
            elif not line.startswith("$ "):
                shown.append(line)
        printed = capsys.readouterr().out
        assert all(line in printed for line in shown)


def test_what_those_who_train_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`init` prints what the page shows, and writes the test that the page runs."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "for_training.md").read_text(encoding="utf-8")
    command, shown = re.findall(r"```console\n\$ sleepwake (init .+?)\n(.+?)```", page, flags=re.DOTALL)[0]
    assert call(shlex.split(command)) == ExitCode.CLEAN
    assert capsys.readouterr().out.strip() == shown.strip()
    (tested,) = re.findall(r"pytest -q (\S+)", page)
    assert (tmp_path / tested).is_file()


def test_the_scenario_of_those_who_maintain_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands on the page."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "for_maintainers.md").read_text(encoding="utf-8")
    (scenario,) = re.findall(r"```yaml\n(.+?)```", page, flags=re.DOTALL)
    Path("mine.yaml").write_text(scenario)
    assert call(["run", "mine.yaml", "--list"]) == ExitCode.CLEAN
    assert capsys.readouterr().out == "my-issue.eager\n"
