"""Servers that are not ours, each trial of the commands in this folder once on a fake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drive.guest.gateway import AVAILABLE
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.small_scenario import REAL_PROMPTS, write_scenario
from tests.torture import behind_nginx, beside_load
from tests.torture.broken_servers import KINDS, Kind, tried
from tests.torture.interruptions import SIGNALS, interrupted

pytestmark = [pytest.mark.cell, pytest.mark.timeout(600)]


def test_an_interrupted_run_leaves_the_server_awake_and_answering(tmp_path: Path, served: Served) -> None:
    """By each signal once; after SIGKILL the next start gives the server back."""
    assert list(interrupted(served.start(), tmp_path, times=len(SIGNALS), seed=1)) == []


def test_a_run_beside_others_claims_nothing_that_they_may_have_caused(tmp_path: Path, served: Served) -> None:
    """It is refused at first, and counts their requests once it is allowed."""
    write_scenario(tmp_path, REAL_PROMPTS)
    slow = Misbehaviour({Behaviour.SLOW: 20})
    assert list(beside_load.wrong(served.start(slow), tmp_path)) == []


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if "once it sleeps" in kind.name or kind.name == "answers: end in the middle"],
    ids=lambda kind: kind.name,
)
def test_a_server_that_breaks_ends_a_run_in_order(tmp_path: Path, kind: Kind) -> None:
    """With the exit code that fits, a history that can be read, and the server awake."""
    row = tried(kind, tmp_path, tmp_path / "no-certificate")
    assert row.is_right, row


@pytest.mark.skipif(not AVAILABLE, reason="needs nginx, openssl")
def test_no_command_shows_the_key_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, a watch and a bug report through nginx."""
    monkeypatch.setattr("sys.argv", ["behind_nginx"])
    assert behind_nginx.main() == 0
