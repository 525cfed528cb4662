"""Guards a real ``vllm.LLM`` on a CPU, as a program of its own, and writes down what the guard says.

``python -m tests.public.guarded_engine MODEL OUT CYCLE ...``: each cycle is ``level1``, ``reloaded`` (level 2
and the weights again) or ``bare`` (level 2 without them).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import sleepwake


def main(model: str, out: Path, cycles: list[str]) -> None:
    """Build the engine, guard it, and check after each cycle."""
    from vllm import LLM

    llm = LLM(
        model=model,
        enable_sleep_mode=True,
        dtype="float32",
        enforce_eager=True,
        block_size=32,
        max_model_len=1024,
        max_logprobs=20,
    )
    began = time.monotonic()
    with sleepwake.guard(llm, out=out) as guard:
        told: list[dict[str, Any]] = [{"cycle": "baseline", "seconds": time.monotonic() - began}]
        for cycle in cycles:
            _carry_out(llm, cycle)
            verdict = guard.check()
            told.append(
                {
                    "cycle": cycle,
                    "verdict": verdict.verdict,
                    "cause": verdict.cause,
                    "reason": verdict.reason,
                    "tokens": verdict.tokens,
                    "seconds": verdict.seconds,
                }
            )
    (out / "told.json").write_text(json.dumps(told, indent=1))


def _carry_out(llm: Any, cycle: str) -> None:
    llm.sleep(level=1 if cycle == "level1" else 2)
    if cycle == "reloaded":
        llm.wake_up(tags=["weights"])
        llm.collective_rpc("reload_weights")
        llm.wake_up(tags=["kv_cache"])
    else:
        llm.wake_up()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
