"""What shells complete, typed into each of them as a person types."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.shells

READY = "ready-for-more "
ERASE = "\x15"

SET_UP = {
    "bash": (".bashrc", f"PS1='{READY}'\n"),
    "zsh": (".zshrc", f"PS1='{READY}'\nautoload -Uz compinit && compinit -u\n"),
    "fish": (".config/fish/config.fish", f"function fish_prompt; printf '{READY}'; end\n"),
}


class Terminal:
    """A shell in a terminal of its own, at home in ``home``."""

    def __init__(self, shell: str, *, home: Path) -> None:
        child, self._terminal = pty.fork()
        if child == 0:
            kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
            path = f"{home / 'bin'}:{os.environ['PATH']}"
            os.execvpe(  # noqa: S606 - the shell is what is tested
                shell,
                [shell, "-i"],
                {**kept, "PATH": path, "HOME": str(home), "TERM": "xterm", "SHELL": shell, "COLUMNS": "200"},
            )
        self._child = child
        self.await_(READY)

    def await_(self, wanted: str) -> None:
        """Read until this stands on the screen; a minute is far more than that takes."""
        shown = b""
        ends = time.monotonic() + 60
        while wanted not in _without_colours(shown):
            assert select.select([self._terminal], [], [], max(0, ends - time.monotonic()))[0], shown
            shown += os.read(self._terminal, 65536)

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._terminal, keys.encode())

    def leave(self) -> None:
        """Close the terminal, which ends the shell."""
        os.close(self._terminal)
        os.waitpid(self._child, 0)


def _without_colours(shown: bytes) -> str:
    """What a terminal shows of it, less what moves and colours."""
    return re.sub(r"\x1b(\[[0-9;?>=]*[a-zA-Z]|\][^\x07]*\x07|.)", "", shown.decode(errors="replace"))


@pytest.mark.parametrize("shell", SET_UP)
def test_a_shell_completes_after_its_one_command(shell: str, tmp_path: Path) -> None:
    """``--install-completion``, a new shell, and commands, options and their values complete."""
    file, text = SET_UP[shell]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    program = tmp_path / "bin" / "sleepwake"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sleepwake "$@"\n')
    program.chmod(0o755)

    first = Terminal(shell, home=tmp_path)
    first.type("sleepwake --install-completion\r")
    first.await_("Completion script installed")
    first.await_(READY)
    first.leave()

    second = Terminal(shell, home=tmp_path)
    for typed, completed in (
        ("sleepwake bug-r\t", "bug-report"),
        ("sleepwake run --keep-s\t", "--keep-servers"),
        ("sleepwake compare --fail-on wo\t", "worse"),
    ):
        second.type(typed)
        second.await_(completed)
        second.type(ERASE)
    second.leave()
