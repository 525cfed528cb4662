"""`sleepwake run --endpoint` on servers that must not, or may, be touched."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from harness.cli import call
from harness.errors import ExitCode
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.threads import Served


def test_a_sleeping_server_is_refused_with_what_wakes_it(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4 before a run directory is made; the server sleeps on."""
    endpoint = served.start()
    httpx.post(f"{endpoint}/sleep")
    assert call(["run", "--endpoint", endpoint]) == ExitCode.INFRASTRUCTURE
    assert f"curl -fsS -X POST {endpoint}/wake_up" in capsys.readouterr().err
    assert httpx.get(f"{endpoint}/is_sleeping").json() == {"is_sleeping": True}
    assert not (here / "reports").exists()


def test_too_many_sleeps_are_a_matter_of_usage(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """--max-sleeps is held before anything is done to the server."""
    assert call(["run", "--endpoint", served.start(), "--max-sleeps", "0"]) == ExitCode.USAGE
    assert "--max-sleeps allows 0" in capsys.readouterr().err
    assert here.exists()


def test_a_server_that_guards_its_requests_alone_is_refused_as_one_that_wants_a_key(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """With vLLM's --api-key all but /v1 answers everybody, and nothing could be asked of the engine."""
    endpoint = served.start(Misbehaviour({Behaviour.WANTS_KEY: 0}))
    assert call(["run", "--endpoint", endpoint]) == ExitCode.INFRASTRUCTURE
    assert "/v1/models: answers 401: it wants a key" in capsys.readouterr().err
    assert here.exists()


@pytest.mark.cell
def test_a_server_that_stays_asleep_ends_in_the_command_that_wakes_it(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first lines say what will be done; the last one how the server is mended."""
    endpoint = served.start(Misbehaviour({Behaviour.WAKE_UP_FAILS: 0}))
    assert call(["run", "--endpoint", endpoint]) != ExitCode.CLEAN
    lines = capsys.readouterr().out.strip().splitlines()
    told = "puts it to sleep 2 times, less than a minute; afterwards it is given back as it was found"
    assert f"{endpoint}: {told}" in lines
    assert f"curl -fsS -X POST {endpoint}/wake_up" in lines[-1]
    assert here.exists()
