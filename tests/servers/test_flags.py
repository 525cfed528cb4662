"""The flags and variables a server gets."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.servers.base import Engine, ServerSpec
from harness.servers.flags import _core_binding, flag_name, server_args, server_env, uses_cpu_sleep


def spec(*args: str, model: str = "org/model", env: dict[str, str] | None = None) -> ServerSpec:
    """Return a spec with these flags."""
    return ServerSpec(
        run_id="run",
        cell="cell",
        model=model,
        served_model_name="served",
        args=args,
        env=env or {},
        log_path=Path("server.log"),
        boot_deadline_s=1,
    )


def args_of(spec: ServerSpec, engine: Engine, *command: str) -> tuple[str, ...]:
    """Return the words after an engine command."""
    return server_args(spec, engine, engine_command=command, host="127.0.0.1", port="8000")


def names(args: Iterable[str]) -> list[str]:
    """Return what the flags set, in order."""
    return [name for word in args if (name := flag_name(word))]


ARM_FLAGS = st.lists(
    st.sampled_from(
        [
            ("--enable-prefix-caching",),
            ("--no-enable-prefix-caching",),
            ("--dtype", "bfloat16"),
            ("--dtype=bfloat16",),
            ("--max_model_len", "512"),
            ("--no-enforce-eager",),
            ("--lora-modules", "a=/a", "b=/b"),
            ("-tp", "2"),
            ("--rope-theta", "-1.5"),
        ]
    ),
    unique_by=lambda words: flag_name(words[0]),
).map(lambda flags: tuple(word for words in flags for word in words))


class TestServerArgs:
    """An arm's flags over the harness's defaults."""

    @given(args=ARM_FLAGS, engine=st.sampled_from(["cpu", "gpu", "unknown"]))
    def test_arm_wins_and_nothing_is_set_twice(self, args: tuple[str, ...], engine: Engine) -> None:
        """The arm's flags arrive unchanged and last, and no default sets what they set."""
        result = args_of(spec(*args), engine)
        assert result[len(result) - len(args) :] == args
        assert len(names(result)) == len(set(names(result)))

    def test_defaults_of_a_cpu_engine(self) -> None:
        """A CPU engine sleeps, computes in float32 and has the smallest blocks."""
        args = args_of(spec(), "cpu")
        assert {"--enable-sleep-mode", "--enforce-eager"} <= set(args)
        assert ("--dtype", "float32") in pairwise(args)
        assert ("--block-size", "32") in pairwise(args)

    def test_precision_of_a_gpu_engine_is_the_models_own(self) -> None:
        """A GPU engine gets no CPU default."""
        assert not {"dtype", "enforce-eager", "block-size"} & set(names(args_of(spec(), "gpu")))

    @pytest.mark.parametrize(
        "flag", ["--model", "--host=0.0.0.0", "--port", "--api-key", "--served_model_name"]
    )
    def test_what_belongs_to_the_runtime_is_refused(self, flag: str) -> None:
        """An arm that sets what the runtime owns is a usage error, before anything starts."""
        with pytest.raises(UsageError, match="an arm cannot set"):
            args_of(spec(flag, "value"), "cpu")

    @pytest.mark.parametrize(
        ("command", "model"),
        [(("vllm", "serve"), ("org/model",)), (("python3", "-m", "server"), ("--model", "org/model"))],
    )
    def test_model_is_given_as_the_command_takes_it(
        self, command: tuple[str, ...], model: tuple[str, ...]
    ) -> None:
        """``vllm serve`` takes the model by position, the server module by flag."""
        assert args_of(spec(), "gpu", *command)[: len(model)] == model


class TestServerEnv:
    """The variables the harness sets."""

    def test_arm_wins(self) -> None:
        """An arm's variable replaces a default."""
        assert server_env(spec(env={"VLLM_CPU_KVCACHE_SPACE": "4"}), "cpu")["VLLM_CPU_KVCACHE_SPACE"] == "4"

    def test_cpu_sleep_is_switched_on_for_cpu_engines_only(self) -> None:
        """Only a CPU engine gets the emulated sleep mode."""
        assert uses_cpu_sleep(server_env(spec(), "cpu"))
        assert not uses_cpu_sleep(server_env(spec(), "gpu"))

    def test_local_model_keeps_the_hub_out(self, tmp_path: Path) -> None:
        """A model folder needs no hub, so none is asked."""
        assert server_env(spec(model=str(tmp_path)), "cpu")["HF_HUB_OFFLINE"] == "1"
        assert "HF_HUB_OFFLINE" not in server_env(spec(), "cpu")


def test_a_small_machine_gives_the_engine_every_core() -> None:
    """With two cores vLLM would keep one for its scheduler; with many its own choice stands."""
    assert _core_binding([0, 1], ranks=1) == {"VLLM_CPU_OMP_THREADS_BIND": "0,1"}
    assert _core_binding(list(range(16)), ranks=1) == {}


@pytest.mark.parametrize(
    ("cores", "ranks", "binding"),
    [([0, 1], 2, "0|1"), ([0, 1], 3, "0|0|1"), ([2, 3, 6, 7], 2, "2,3|6,7"), ([0, 1, 2], 2, "0|1,2")],
)
def test_every_rank_has_its_cores(cores: list[int], ranks: int, binding: str) -> None:
    """All cores are used, and where there are fewer than ranks some share one."""
    assert _core_binding(cores, ranks=ranks) == {"VLLM_CPU_OMP_THREADS_BIND": binding}
