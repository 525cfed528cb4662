"""What a command says goes nowhere when nobody takes it, and the command goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.streams import EnduringFile
from harness.errors import ExitCode

HISTORY = [sys.executable, "-c", "from harness.cli import main; main()", "history", "--out", "nothing"]


def test_a_full_disk_is_noted_once_and_ends_nothing() -> None:
    """What is written afterwards is dropped, and the complaint says why."""
    with EnduringFile("/dev/full", "wb") as file:
        assert file.write(b"lost") == 4
        assert file.write(b"dropped") == 7
        assert file.lost == errno.ENOSPC
        assert file.complaint == "standard output could not be written: No space left on device"


def test_of_a_reader_that_left_nobody_complains() -> None:
    """It wanted no more."""
    nobody, pipe = os.pipe()
    os.close(nobody)
    with EnduringFile(pipe, "wb") as file:
        assert file.write(b"lost") == 4
        assert file.lost == errno.EPIPE
        assert file.complaint is None


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (">/dev/full", ExitCode.INFRASTRUCTURE, "sleepwake: standard output could not be written: No space"),
        (">&- 2>&- <&-", ExitCode.CLEAN, ""),
        pytest.param(">&-", ExitCode.CLEAN, "", marks=pytest.mark.cell),
        pytest.param("2>&-", ExitCode.CLEAN, "", marks=pytest.mark.cell),
    ],
)
def test_a_command_ends_in_order(tmp_path: Path, redirected: str, code: ExitCode, said: str) -> None:
    """Output that is lost is an error of its own, and no output is none."""
    shell = ["sh", "-c", f'"$@" {redirected}', "sh", *HISTORY]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert bool(done.stderr) == bool(said)
