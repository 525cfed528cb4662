"""How a fake server is configured: vLLM's command line flags and environment variables."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from tests.fake_vllm.behaviours import Misbehaviour

DEFAULT_MODEL = "toy-model"


@dataclass(frozen=True, kw_only=True)
class Options:
    """One server's configuration; the defaults are those of a well-configured server under test."""

    host: str = "127.0.0.1"
    port: int = 8000
    model: str = DEFAULT_MODEL
    served_model_name: str = DEFAULT_MODEL
    enable_prefix_caching: bool = True
    enable_prompt_tokens_details: bool = True
    dtype: str = "float32"
    """In bfloat16 logits are rounded, and no two answers are alike in every bit."""
    block_size: int = 32
    blocks: int = 2048
    max_model_len: int = 1024
    max_num_seqs: int = 128
    max_logprobs: int = 20
    dev_mode: bool = True
    runtime_lora: bool = True
    enable_scale_out: bool = True
    enable_trace_replay: bool = False
    discard: str = "zero"
    has_ballast: bool = False
    """Whether its memory is large enough to be seen from outside the process."""
    misbehaviour: Misbehaviour = field(default_factory=lambda: Misbehaviour({}))
    exit_process: Callable[[int], NoReturn] = os._exit
    """Is called where a real engine dies."""

    @classmethod
    def parse(
        cls,
        arguments: Sequence[str],
        environ: Mapping[str, str] = os.environ,
        *,
        exit_process: Callable[[int], NoReturn] = os._exit,
    ) -> Options:
        """Read vLLM's command line and environment; flags that make no difference here are ignored.

        Raises:
            ValueError: the environment asks for an unknown fault or behaviour.
        """
        known, _ = _parser().parse_known_args(arguments)
        return cls(
            **{**vars(known), "served_model_name": known.served_model_name or known.model},
            dev_mode=environ.get("VLLM_SERVER_DEV_MODE") == "1",
            runtime_lora=environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "").lower() in ("1", "true"),
            discard=environ.get("SLEEPWAKE_DISCARD") or "zero",
            misbehaviour=Misbehaviour.from_environment(environ),
            exit_process=exit_process,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fake_vllm", allow_abbrev=False)
    parser.add_argument("--host", default=Options.host)
    parser.add_argument("--port", type=int, default=Options.port)
    parser.add_argument("--model", default=Options.model)
    parser.add_argument("--served-model-name", default="")
    parser.add_argument("--dtype", default=Options.dtype)
    parser.add_argument("--block-size", type=int, default=Options.block_size)
    parser.add_argument("--max-model-len", type=int, default=Options.max_model_len)
    parser.add_argument("--max-num-seqs", type=int, default=Options.max_num_seqs)
    parser.add_argument("--max-logprobs", type=int, default=Options.max_logprobs)
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--enable-prompt-tokens-details", action=argparse.BooleanOptionalAction, default=False
    )
    for flag in ("--enable-scale-out", "--enable-trace-replay"):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=False)
    return parser
