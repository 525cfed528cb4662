"""Keys on the command line go where other users of the machine cannot read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.process_list import with_secrets_in_environment

PYTHON = ["python", "-m", "sleepwake", "run"]


@pytest.mark.parametrize(
    "given", [["--api-key", "sk-1"], ["--api-key=sk-1"], ["--api-key=sk-0", "--api-key", "sk-1"]]
)
def test_a_key_moves_into_the_environment(given: list[str]) -> None:
    """However it is spelt; of several the last one counts, as on any command line."""
    call = with_secrets_in_environment([*PYTHON, *given, "-k", "level1"], {"HOME": "/home/me"})
    assert call == ([*PYTHON, "-k", "level1"], {"HOME": "/home/me", "SLEEPWAKE_API_KEY": "sk-1"})


def test_all_headers_move_together() -> None:
    """They are read back as a shell would take the variable apart."""
    call = with_secrets_in_environment(
        [*PYTHON, "--header", "A=b c", "--header=D=e"], {"SLEEPWAKE_HEADERS": "X=y"}
    )
    assert call == (PYTHON, {"SLEEPWAKE_HEADERS": "'A=b c' D=e"})


@pytest.mark.parametrize(
    "argv",
    [PYTHON, [*PYTHON, "--api-key"], [*PYTHON, "--", "--api-key", "x"], [*PYTHON, "--endpoint=http://a"]],
)
def test_any_other_call_stays_as_it_is(argv: list[str]) -> None:
    """An option without its value is left for the command to refuse."""
    assert with_secrets_in_environment(argv, {}) is None


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="reads its own command line where Linux shows it")
def test_the_list_of_processes_does_not_show_the_key() -> None:
    """The command begins again, with the key still known to it."""
    shows = (
        "from harness.process_list import hide_secrets; hide_secrets();"
        "import os; key = os.environ['SLEEPWAKE_API_KEY'];"
        "seen = open('/proc/self/cmdline').read(); print(key, key in seen)"
    )
    seen = subprocess.run(
        [sys.executable, "-c", shows, "--api-key", "sk-1"], capture_output=True, text=True, check=True
    )
    assert seen.stdout == "sk-1 False\n"
