"""What a server told of its own configuration, as far as a judgement depends on it."""

from __future__ import annotations

import re

from pydantic import JsonValue

from harness.history.recording import Recording

_FLOAT32 = "float32"
_KEPT_EXACTLY = frozenset({"auto", "float16", "bfloat16", _FLOAT32})
"""Values of ``--kv-cache-dtype`` that keep as many bits as keys and values are computed in, or nearly."""


def told(recording: Recording, part: str, name: str) -> JsonValue:
    """One value of vLLM's configuration, such as ``cache_config``'s ``num_gpu_blocks``; None if not told."""
    configuration = recording.server.configuration if recording.server else None
    of_part = configuration.get(part) if isinstance(configuration, dict) else None
    return of_part.get(name) if isinstance(of_part, dict) else None


def computes_in_float32(recording: Recording) -> bool | None:
    """Whether the model computes in float32; None where neither the server nor the arm's flags tell."""
    dtype = told(recording, "model_config", "dtype") or _flag(recording, "dtype")
    return None if dtype in {None, "auto"} else str(dtype).removeprefix("torch.") in {_FLOAT32, "float"}


def quantises_weights(recording: Recording) -> bool:
    """Whether weights, and perhaps what is computed with them, are held in fewer bits."""
    return bool(told(recording, "model_config", "quantization") or _flag(recording, "quantization"))


def quantises_kv_cache(recording: Recording) -> bool:
    """Whether keys and values are stored in fewer bits than they are computed in, and so need scales."""
    dtype = _flag(recording, "kv-cache-dtype") or told(recording, "cache_config", "cache_dtype") or "auto"
    return dtype not in _KEPT_EXACTLY


def _flag(recording: Recording, name: str) -> str | None:
    """What an arm sets a flag to; as with argparse, the last word counts."""
    words = " ".join(recording.cell.arm_args)
    given = re.findall(rf"(?:^| )--{name}[ =](\S+)", words)
    return given[-1] if given else None
