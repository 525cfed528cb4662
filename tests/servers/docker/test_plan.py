"""What a container is to be like."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.servers.base import ServerSpec
from harness.servers.docker.plan import BindMount, ContainerPlan, GpuRequest, plan_container
from tests.servers.conftest import SpecFactory

TOKEN = "hf_0123456789"  # noqa: S105
DEADLINE = datetime(2030, 1, 1, tzinfo=UTC)


def plan(
    spec: ServerSpec, *, entrypoint: tuple[str, ...] = (), gpus: GpuRequest | None = None
) -> ContainerPlan:
    """Plan a container for a spec."""
    return plan_container(
        spec,
        image="vllm/vllm-openai:v0.10.0",
        entrypoint=entrypoint,
        engine="gpu" if gpus else "cpu",
        gpus=gpus,
        memory_limit=None,
        deadline=DEADLINE,
    )


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the Hugging Face cache of this machine."""
    cache = tmp_path / "huggingface"
    monkeypatch.setenv("HF_HOME", str(cache))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return cache


class TestModel:
    """How the model gets into the container."""

    def test_hub_model_shares_the_cache_and_the_token(self, make_spec: SpecFactory, hub_cache: Path) -> None:
        """A Hugging Face id is downloaded once for all containers, with the user's token."""
        made = plan(make_spec(model="org/model"))
        assert made.mounts == (
            BindMount(source=hub_cache, target=Path("/root/.cache/huggingface"), read_only=False),
        )
        assert made.env["HF_TOKEN"] == TOKEN
        assert hub_cache.is_dir()

    def test_folder_needs_neither_hub_nor_token(self, make_spec: SpecFactory, tmp_path: Path) -> None:
        """A model folder is mounted read-only, and the container gets no token."""
        made = plan(make_spec(model=str(tmp_path)))
        assert made.mounts == (BindMount(source=tmp_path, target=tmp_path, read_only=True),)
        assert made.env["HF_HUB_OFFLINE"] == "1"
        assert "HF_TOKEN" not in made.env

    @pytest.mark.parametrize(
        ("entrypoint", "words"), [(("vllm", "serve"), 1), (("python3", "-m", "server"), 2)]
    )
    def test_entry_point_decides_how_the_model_is_named(
        self, make_spec: SpecFactory, entrypoint: tuple[str, ...], words: int
    ) -> None:
        """Old images start the server module, new ones ``vllm serve``."""
        argv = plan(make_spec(model="org/model"), entrypoint=entrypoint).argv
        assert argv[:words] == ("--model", "org/model")[-words:]
        assert argv[words] == "--served-model-name"


class TestRunCommand:
    """The command a person can repeat."""

    def test_secrets_by_name_only(self, make_spec: SpecFactory) -> None:
        """The token's name stands in the command, its value does not."""
        words = shlex.split(plan(make_spec()).run_command())
        assert words[words.index("HF_TOKEN") - 1] == "--env"
        assert TOKEN not in " ".join(words)

    def test_port_is_published_on_loopback(self, make_spec: SpecFactory) -> None:
        """Nobody else on the network can reach the server's unauthenticated endpoints."""
        words = shlex.split(plan(make_spec()).run_command())
        assert words[words.index("--publish") + 1] == "127.0.0.1::8000"

    @pytest.mark.parametrize(
        ("gpus", "flags"),
        [
            (GpuRequest(), "--gpus all"),
            (GpuRequest(devices=("0", "2")), """--gpus '"device=0,2"'"""),
            (GpuRequest(cdi=True), "--device nvidia.com/gpu=all"),
            (GpuRequest(devices=("1",), cdi=True), "--device nvidia.com/gpu=1"),
        ],
    )
    def test_gpus(self, make_spec: SpecFactory, gpus: GpuRequest, flags: str) -> None:
        """GPUs are asked for as the host hands them out."""
        assert flags in plan(make_spec(), gpus=gpus).run_command()


class TestIdentity:
    """How a container is named."""

    def test_names_differ_and_are_names_to_docker(self, make_spec: SpecFactory) -> None:
        """Two servers of a cell have two names, of characters Docker takes."""
        first, second = plan(make_spec()).name, plan(make_spec()).name
        assert first != second
        assert first.startswith("sleepwake-scenario-arm-")
        assert first.replace("-", "").isalnum()
