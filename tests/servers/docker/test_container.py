"""What the Docker Engine's answers about a container mean."""

import gc
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import InfrastructureError, RuntimeUnavailableError
from harness.servers.docker.container import describe_end, resident_in
from harness.servers.docker.engine import EngineInfo, PulledImage, read_info, refusal
from harness.servers.docker.plan import DEADLINE_LABEL, KEEP_LABEL, OWNER_LABEL
from harness.servers.docker.runtime import DockerRuntime, why_abandoned
from harness.servers.owner import Owner

NOW = datetime(2030, 1, 1, tzinfo=UTC)
US = Owner.this_process()
GONE = US.model_copy(update={"process": US.process._replace(started=0)})
ELSEWHERE = US.model_copy(update={"place": US.place.model_copy(update={"host": "elsewhere"})})


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ExitCode": 0}, "it exited with code 0"),
        ({"ExitCode": 1, "OOMKilled": False}, "it exited with code 1"),
        ({"ExitCode": 137, "OOMKilled": True}, "ran out of memory (exit code 137)"),
        ({"ExitCode": 1, "OOMKilled": True}, "ran out of memory (exit code 1)"),
        ({"ExitCode": 139}, "killed by SIGSEGV (exit code 139)"),
        ({"ExitCode": 255}, "it exited with code 255"),
        ({"ExitCode": 127, "Error": "exec: no such file"}, "Docker could not run it: exec: no such file"),
    ],
)
def test_end_in_words(state: Mapping[str, object], words: str) -> None:
    """Exit codes are said as people mean them: signals by name, memory first."""
    assert words in describe_end(state)


@pytest.mark.parametrize(
    ("stats", "resident"),
    [
        ({"usage": 900, "stats": {"anon": 100, "shmem": 20, "file": 700}}, 120),
        ({"usage": 900, "stats": {"total_rss": 100, "total_shmem": 20, "cache": 700}}, 120),
        ({"usage": 900, "stats": {"total_rss": 100, "cache": 700}}, 100),
        ({}, None),
    ],
    ids=["control groups v2", "control groups v1", "v1 without shared memory", "ended container"],
)
def test_page_cache_is_not_resident(stats: Mapping[str, object], resident: int | None) -> None:
    """Anonymous and shared memory count; files the kernel keeps in memory do not."""
    assert resident_in(stats) == resident


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"Runtimes": {"runc": {}}}, EngineInfo("27.0", hands_out_gpus=False, by_cdi=False)),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, EngineInfo("27.0", hands_out_gpus=True, by_cdi=False)),
        (
            {"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]},
            EngineInfo("27.0", hands_out_gpus=True, by_cdi=True),
        ),
        (
            {"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "other.com/card=0"}]},
            EngineInfo("27.0", hands_out_gpus=False, by_cdi=False),
        ),
    ],
    ids=["no GPUs", "container toolkit", "CDI only", "another vendor's devices"],
)
def test_how_gpus_are_handed_out(info: dict[str, object], expected: EngineInfo) -> None:
    """Hosts with the container toolkit and hosts that have only CDI are told apart."""
    assert read_info({"ServerVersion": "27.0", **info}) == expected


@pytest.mark.parametrize(
    ("explanation", "kind", "words"),
    [
        (
            'could not select device driver "" with capabilities: [[gpu]]',
            RuntimeUnavailableError,
            "cannot provide GPUs",
        ),
        (
            "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0",
            RuntimeUnavailableError,
            "GPUs",
        ),
        (
            "nvidia-container-cli: initialization error: nvml error: unknown error",
            InfrastructureError,
            "GPU was lost",
        ),
        ("write /var/lib/docker/x: no space left on device", InfrastructureError, "disk is full"),
        ("something new", InfrastructureError, "starting a container failed: something new"),
    ],
)
def test_refusals(explanation: str, kind: type[InfrastructureError], words: str) -> None:
    """What the engine refuses becomes an infrastructure error with its reason."""
    error = refusal("starting a container", explanation)
    assert type(error) is kind
    assert words in error.cause
    assert error.remedy


@pytest.mark.parametrize(
    ("owner", "hours_left", "reason"),
    [
        (US, 1, None),
        (US, -1, None),
        (GONE, 1, "whose sleepwake is no longer running"),
        (ELSEWHERE, 1, None),
        (ELSEWHERE, -1, "which was past its deadline"),
    ],
    ids=["ours", "ours and late", "dead harness", "another machine's", "another machine's and late"],
)
def test_abandoned_containers(owner: Owner, hours_left: int, reason: str | None) -> None:
    """A living harness keeps its containers; one that cannot be seen keeps them until their time is over."""
    labels = {
        OWNER_LABEL: owner.model_dump_json(),
        DEADLINE_LABEL: (NOW + timedelta(hours=hours_left)).isoformat(),
    }
    assert why_abandoned(labels, now=NOW) == reason


@pytest.mark.parametrize(
    ("hours_left", "kept_too", "reason"),
    [
        (1, False, None),
        (1, True, "whose sleepwake is no longer running"),
        (-1, False, "whose sleepwake is no longer running"),
    ],
    ids=["spared", "cleaned", "late"],
)
def test_kept_containers(hours_left: int, reason: str | None, *, kept_too: bool) -> None:
    """What was left running on request is spared until it is asked for by name, or its time is over."""
    labels = {
        OWNER_LABEL: GONE.model_dump_json(),
        DEADLINE_LABEL: (NOW + timedelta(hours=hours_left)).isoformat(),
        KEEP_LABEL: "1",
    }
    assert why_abandoned(labels, now=NOW, kept_too=kept_too) == reason


@pytest.mark.parametrize("labels", [{OWNER_LABEL: "?"}, {OWNER_LABEL: "?", DEADLINE_LABEL: "tomorrow"}])
def test_labels_nobody_understands(labels: dict[str, str]) -> None:
    """A container whose labels cannot be read is not ours to remove."""
    assert why_abandoned(labels, now=NOW) is None


class TestNoEngine:
    """A machine on which no engine can be used."""

    @pytest.mark.parametrize(
        ("left_behind", "reason"), [(False, "no such file or directory"), (True, "connection refused")]
    )
    def test_none_answers(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, left_behind: bool, reason: str
    ) -> None:
        """Without an engine, or with a dead one's socket: said with the remedy, and nothing stays open."""
        path = tmp_path / "engine.sock"
        if left_behind:
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        with pytest.raises(
            RuntimeUnavailableError, match=rf"no Docker Engine answers \({reason}\)"
        ) as caught:
            DockerRuntime(image=PulledImage("any"), engine="cpu").check_available()
        assert "systemctl start docker" in caught.value.remedy
        gc.collect()  # an open socket would warn here
