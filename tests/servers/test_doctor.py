"""What this machine can run, and what each missing thing would add."""

from __future__ import annotations

from typing import NoReturn

import pytest

from harness.cli import call
from harness.errors import ExitCode, RuntimeUnavailableError
from harness.servers import doctor
from harness.servers.docker.presence import DockerEngine
from harness.servers.process.runtime import ProcessRuntime


def unavailable(*_: object) -> NoReturn:
    """Whatever is asked for is not there."""
    raise RuntimeUnavailableError("it is not here", remedy="bring it")


def found() -> dict[str, doctor.Finding]:
    """Every finding by what it is about."""
    return {finding.what: finding for finding in doctor.examine_machine()}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has nothing a run could use but memory and disk."""
    monkeypatch.setattr(ProcessRuntime, "check_available", unavailable)
    monkeypatch.setattr(doctor, "examine_docker", unavailable)
    monkeypatch.setattr(doctor, "gpu_names", tuple)
    monkeypatch.setattr(doctor, "lacks", lambda _: True)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("what", "adds"),
    [
        ("process runtime", "it is not here: bring it; it would add servers as child processes"),
        ("docker runtime", "it is not here: bring it; it would add other releases of vLLM"),
        ("GPU", "one would add vLLM's own sleep mode"),
        ("drawing", "pip install -e '.[report]' adds report.html with its plots"),
        ("Ray", "pip install -e '.[ray]' adds cells on the nodes of a cluster"),
        ("Hypothesis", "pip install -e '.[fuzz]' adds the search for failing sequences"),
    ],
)
def test_what_is_missing_says_what_it_would_add(what: str, adds: str) -> None:
    """Whoever reads it can tell whether bringing it is worth the trouble."""
    finding = found()[what]
    assert not finding.available
    assert finding.detail.startswith(adds)


def test_a_docker_engine_tells_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The releases that need no building are named, the oldest first."""
    engine = DockerEngine(version="28.1", hands_out_gpus=False, cpu_images=frozenset({"0.10.0", "0.9.2"}))
    monkeypatch.setattr(doctor, "examine_docker", lambda: engine)
    told = found()["docker runtime"]
    assert told.available
    assert told.detail == "Docker Engine 28.1, without GPUs; CPU images of vLLM 0.9.2, 0.10.0"


@pytest.mark.usefixtures("bare")
def test_the_command_ends_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a thing, yes or no first; that something is missing is no failure."""
    assert call(["doctor"]) == ExitCode.CLEAN
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"yes", "no"}
    assert "no   GPU: one would add" in "\n".join(lines)
