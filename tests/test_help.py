"""What ``--help`` shows."""

from __future__ import annotations

import re

import pytest

from harness.cli import call
from harness.cli.application import app
from harness.cli.help import joined

COMMANDS = [name for name in app if not name.startswith("-")]


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a command."""
    assert call([*command, "--help"]) == 0
    return capsys.readouterr().out


def test_lines_are_joined_where_only_the_code_broke_them() -> None:
    """A paragraph and the description of an option are one line each; names and paragraphs stay apart."""
    assert joined(
        """Do this,
    and that.

    A second
    paragraph.

    Args:
        one: The first
            of two.
        two: The second.
    """
    ) == (
        "Do this, and that.\n\nA second paragraph.\n\nArgs:\n    one: The first of two.\n    two: The second."
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_broken_in_the_middle(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a wide terminal every option's description stands on one line."""
    monkeypatch.setenv("COLUMNS", "80")
    help_of(command, capsys=capsys)
    monkeypatch.setenv("COLUMNS", "1000")
    shown = help_of(command, capsys=capsys)
    rows = re.findall(r"^│(.*)│$", shown, flags=re.MULTILINE)
    assert [row for row in rows if row.strip() and not row[:6].strip()] == []


def test_the_options_of_run_stand_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """What is asked for comes before how it is done; no option is left without a group."""
    groups = re.findall(r"╭─ (.+?) ─", help_of("run", capsys=capsys))
    assert groups == [
        "Arguments",
        "What is run",
        "Which engine",
        "A server that is already running",
        "How it is run",
        "Where cells run",
        "What comes of it",
    ]
