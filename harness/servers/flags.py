"""The vLLM flags and environment every server gets, beneath what an arm asks for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from harness.errors import UsageError
from harness.servers.base import Engine, ServerSpec

CPU_SLEEP_SWITCH = "SLEEPWAKE_CPU_SLEEP"

# Long enough for prompts of several KV blocks and their answers, short enough for a small KV cache.
_MAX_MODEL_LEN = {"cpu": "1024", "gpu": "4096"}

_SMALL_MACHINE_CORES = 4

_OWNED_BY_RUNTIME = {
    "model": "the model is chosen with --model",
    "served-model-name": "sleepwake names the model itself",
    "host": "servers listen on loopback only",
    "port": "the runtime picks a free port",
    "uds": "sleepwake talks to a port",
    "api-key": "servers listen on loopback only and need no key",
}


PARALLEL_SIZES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tensor": ("tensor-parallel-size", "tp"),
        "pipeline": ("pipeline-parallel-size", "pp"),
        "data": ("data-parallel-size", "dp"),
    }
)
"""The flags that say how many ranks share the work, by how they share it."""


def flag_name(word: str) -> str | None:
    """Return what a flag sets: ``--no-enable_x=1`` sets ``enable-x``.  None for a value.

    >>> flag_name("--no-enable-prefix-caching"), flag_name("--dtype=float32"), flag_name("float32")
    ('enable-prefix-caching', 'dtype', None)
    """
    if not word.startswith("-") or not word.lstrip("-")[:1].isalpha():
        return None
    return word.lstrip("-").partition("=")[0].replace("_", "-").removeprefix("no-")


def flag_value(words: Sequence[str], *names: str) -> str | None:
    """Return what the last flag of these names is set to; None where none is, or has no value.

    >>> flag_value(["-tp", "2", "--tensor-parallel-size=4"], "tensor-parallel-size", "tp")
    '4'
    """
    found = None
    for word, after in pairwise((*words, "")):
        if flag_name(word) in names:
            found = word.partition("=")[2] or after or None
    return found


def server_args(
    spec: ServerSpec, engine: Engine, *, engine_command: Sequence[str], host: str, port: str
) -> tuple[str, ...]:
    """Return all words after the engine command: model, address, defaults, then the arm's own.

    A default that the arm sets or contradicts is left out, so no flag is given twice.
    ``vllm serve`` takes the model as its first word, the older server module by flag.

    Raises:
        UsageError: The arm sets a flag that belongs to the runtime.
    """
    chosen = {name for word in spec.args if (name := flag_name(word))}
    for name in sorted(chosen & _OWNED_BY_RUNTIME.keys()):
        raise UsageError(f"an arm cannot set --{name}", remedy=f"remove it: {_OWNED_BY_RUNTIME[name]}")
    defaults = [
        word for default in _default_flags(engine) if flag_name(default[0]) not in chosen for word in default
    ]
    model = (spec.model,) if engine_command[-1:] == ("serve",) else ("--model", spec.model)
    address = ("--host", host, "--port", port)
    return (*model, "--served-model-name", spec.served_model_name, *address, *defaults, *spec.args)


def server_env(spec: ServerSpec, engine: Engine) -> dict[str, str]:
    """Return the variables the harness sets for a server, the arm's own last."""
    environment = _default_env(engine, local_model=is_local(spec.model))
    if engine == "cpu":
        environment |= _core_binding(sorted(os.sched_getaffinity(0)), ranks=ranks_of(spec.args))
    return {**environment, **spec.env}


def ranks_of(words: Sequence[str]) -> int:
    """How many workers share the engine's work: tensor, pipeline and data parallel, as far as flags say so.

    >>> ranks_of(["-tp", "2", "--pipeline-parallel-size=2"]), ranks_of(["--enforce-eager"])
    (4, 1)
    """
    sizes = (flag_value(words, *names) or "1" for names in PARALLEL_SIZES.values())
    return math.prod(int(size) for size in sizes if size.isdecimal())


def is_local(model: str) -> bool:
    """Whether ``model`` is a folder on this machine rather than a Hugging Face id."""
    return Path(model).is_dir()


def uses_cpu_sleep(env: Mapping[str, str]) -> bool:
    """Whether the server emulates sleep mode on a CPU."""
    return env.get(CPU_SLEEP_SWITCH) == "1"


def _default_flags(engine: Engine) -> Iterable[tuple[str, ...]]:
    yield ("--enable-sleep-mode",)
    yield ("--generation-config", "vllm")  # keeps a repository's sampling defaults out
    yield ("--enable-prompt-tokens-details",)  # usage.prompt_tokens_details.cached_tokens
    yield ("--max-logprobs", "20")
    yield ("--max-model-len", _MAX_MODEL_LEN["cpu" if engine == "cpu" else "gpu"])
    if engine == "cpu":
        yield ("--dtype", "float32")  # the noise floor is exactly zero
        yield ("--enforce-eager",)  # boots in half a minute and needs no compiler
        yield ("--block-size", "32")  # the smallest that vLLM accepts on a CPU


def _default_env(engine: Engine, *, local_model: bool) -> dict[str, str]:
    env = {
        "VLLM_SERVER_DEV_MODE": "1",  # /sleep, /wake_up, /is_sleeping, /collective_rpc, ...
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if local_model:
        env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if engine == "cpu":
        env |= {CPU_SLEEP_SWITCH: "1", "VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB
    return env


def _core_binding(cores: list[int], *, ranks: int) -> dict[str, str]:
    """On a small machine, give the engine every core, and each rank its share or at least one.

    Left to itself vLLM keeps one free for its scheduler, and of two that is half; and it refuses to start
    where there are more ranks than cores (vllm/utils/ompmultiprocessing.py).
    """
    if len(cores) > _SMALL_MACHINE_CORES:
        return {}
    shares = [cores[rank * len(cores) // ranks : (rank + 1) * len(cores) // ranks] for rank in range(ranks)]
    alone = ([cores[rank * len(cores) // ranks]] for rank in range(ranks))
    bound = (share or one for share, one in zip(shares, alone, strict=True))
    return {"VLLM_CPU_OMP_THREADS_BIND": "|".join(",".join(map(str, share)) for share in bound)}
