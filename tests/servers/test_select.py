"""Which runtime is chosen, and why."""

import pytest

from harness.errors import RuntimeUnavailableError, UsageError
from harness.servers.process.runtime import ProcessRuntime
from harness.servers.select import Machine, Wanted, check_options, choose_runtime, decide

NOTHING = Machine(
    no_docker="no Docker Engine answers", docker_gpus=(), no_process="vLLM is not installed", vllm=None
)
LAPTOP = Machine(no_docker="no Docker Engine answers", docker_gpus=(), no_process=None, vllm="0.32.0")
DOCKER = Machine(
    no_docker=None, docker_gpus=(), no_process=None, vllm="0.32.0", cpu_images=frozenset({"0.32.0"})
)
BARE_DOCKER = Machine(no_docker=None, docker_gpus=(), no_process=None, vllm="0.32.0")
GPU_HOST = Machine(
    no_docker=None, docker_gpus=("NVIDIA H100",), no_process="vLLM is not installed", vllm=None
)


class TestDecide:
    """Docker with a GPU, Docker without, process; in this order, and always with a reason."""

    @pytest.mark.parametrize(
        ("machine", "wanted", "name", "reason"),
        [
            (GPU_HOST, Wanted(), "docker", "provides NVIDIA H100"),
            (DOCKER, Wanted(), "docker", "it provides no GPU"),
            (LAPTOP, Wanted(), "process", "no Docker Engine answers; vLLM 0.32.0 is installed here"),
            (DOCKER, Wanted(runtime="process"), "process", "asked for"),
            (LAPTOP, Wanted(vllm="0.32.0"), "process", "no Docker Engine answers"),
            (DOCKER, Wanted(vllm="0.10.0"), "docker", "a Docker Engine answers"),
            (BARE_DOCKER, Wanted(), "process", "no CPU image of vLLM 0.32.0 yet"),
            (BARE_DOCKER, Wanted(runtime="docker"), "docker", "asked for"),
            (BARE_DOCKER, Wanted(vllm="0.10.0"), "docker", "a Docker Engine answers"),
            (DOCKER, Wanted(image="mine:1"), "docker", "a Docker Engine answers"),
        ],
    )
    def test_best_of_the_machine(self, machine: Machine, wanted: Wanted, name: str, reason: str) -> None:
        """The best runtime that the machine has, and the options allow, is taken."""
        chosen, why = decide(wanted, machine)
        assert chosen == name
        assert reason in why

    @pytest.mark.parametrize(
        ("machine", "wanted", "reasons"),
        [
            (NOTHING, Wanted(), ["docker: no Docker Engine answers", "process: vLLM is not installed"]),
            (LAPTOP, Wanted(runtime="docker"), ["docker: no Docker Engine answers"]),
            (LAPTOP, Wanted(vllm="0.10.0"), ["vLLM 0.32.0 is installed here, not 0.10.0"]),
            (LAPTOP, Wanted(image="mine:1"), ["process: it has no images"]),
        ],
    )
    def test_nothing_fits(self, machine: Machine, wanted: Wanted, reasons: list[str]) -> None:
        """When nothing fits, every runtime's own reason is said."""
        with pytest.raises(RuntimeUnavailableError) as caught:
            decide(wanted, machine)
        assert all(reason in caught.value.cause for reason in reasons)


class TestOptions:
    """Options that contradict each other are found before anything is looked at."""

    @pytest.mark.parametrize(
        "wanted",
        [
            Wanted(runtime="kubernetes"),
            Wanted(runtime="attached"),
            Wanted(endpoint="http://host", runtime="docker"),
            Wanted(endpoint="http://host", image="mine:1"),
            Wanted(vllm="0.10.0", image="mine:1"),
            Wanted(runtime="process", image="mine:1"),
        ],
    )
    def test_contradictions(self, wanted: Wanted) -> None:
        """Each contradiction is a usage error."""
        with pytest.raises(UsageError):
            check_options(wanted)

    def test_asked_for_process(self) -> None:
        """The process runtime of this environment can be asked for."""
        choice = choose_runtime(Wanted(runtime="process"))
        assert isinstance(choice.runtime, ProcessRuntime)
        assert choice.reason == "asked for"
