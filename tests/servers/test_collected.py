"""What vLLM itself says of this machine."""

from __future__ import annotations

import subprocess

import pytest

from harness.servers import collected


def test_only_the_release_that_is_installed_here_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release, or none, would tell of another engine than the one reported."""
    monkeypatch.setattr(collected, "version", lambda _name: "0.32.0+cpu")

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, stdout="OS: Debian\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert collected.collect_env("0.32.0") == "OS: Debian"
    assert collected.collect_env("0.10.0") == ""
    assert collected.collect_env(None) == ""


def test_where_it_cannot_be_had_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is written all the same."""
    monkeypatch.setattr(collected, "version", lambda _name: "0.32.0")

    def hang(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 120)

    monkeypatch.setattr(subprocess, "run", hang)
    assert collected.collect_env("0.32.0") == ""
