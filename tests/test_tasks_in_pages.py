"""The page for those who run a server, done word for word: every command of sleepwake in it, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.cli import call
from harness.errors import ExitCode
from tests.fake_vllm.threads import Served

PAGE = Path(__file__).parents[1] / "docs" / "for_servers.md"
ADDRESS = "http://127.0.0.1:8000"


@pytest.mark.cell
def test_the_tasks_of_who_runs_a_server(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty folder, against a server at another address; what the page shows is printed."""
    monkeypatch.chdir(tmp_path)
    endpoint = served.start()
    for block in re.findall(r"```console\n(.+?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        shown: list[str] = []
        for line in block.replace(ADDRESS, endpoint).splitlines():
            if not line.startswith("$ "):
                shown.append(line)
                continue
            command, _, file = line[2:].partition(" > ")
            words = shlex.split(command)
            if words[0] == "echo":
                Path(file).write_text(f"{words[1]}\n")
            elif words[0] == "sleepwake":
                assert call(words[1:]) == ExitCode.CLEAN, line
        printed = capsys.readouterr().out
        assert all(line in printed for line in shown)
