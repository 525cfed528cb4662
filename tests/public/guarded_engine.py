"""Guards a real engine of vLLM on a CPU, as a program of its own, and writes down what the guard says.

``python -m tests.public.guarded_engine LLM|AsyncLLM MODEL OUT CYCLE ...``: each cycle is ``level1``,
``reloaded`` (level 2 and the weights again) or ``bare`` (level 2 without them).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sleepwake


def guard_llm(flags: dict[str, Any], out: Path, cycles: list[str]) -> list[dict[str, Any]]:
    """Check an ``LLM`` after each cycle."""
    from vllm import LLM

    llm = LLM(**flags)
    began = time.monotonic()
    with sleepwake.guard(llm, out=out) as guard:
        told: list[dict[str, Any]] = [{"baseline_seconds": time.monotonic() - began}]
        for cycle in cycles:
            llm.sleep(level=1 if cycle == "level1" else 2)
            if cycle == "reloaded":
                llm.wake_up(tags=["weights"])
                llm.collective_rpc("reload_weights")
                llm.wake_up(tags=["kv_cache"])
            else:
                llm.wake_up()
            told.append({"cycle": cycle, **asdict(guard.check())})
    return told


async def guard_async_llm(flags: dict[str, Any], out: Path, cycles: list[str]) -> list[dict[str, Any]]:
    """Check an ``AsyncLLM`` after each cycle."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**flags))
    began = time.monotonic()
    async with await sleepwake.async_guard(llm, out=out) as guard:
        told: list[dict[str, Any]] = [{"baseline_seconds": time.monotonic() - began}]
        for cycle in cycles:
            await llm.sleep(level=1 if cycle == "level1" else 2)
            if cycle == "reloaded":
                await llm.wake_up(tags=["weights"])
                await llm.collective_rpc("reload_weights")
                await llm.wake_up(tags=["kv_cache"])
            else:
                await llm.wake_up()
            told.append({"cycle": cycle, **asdict(await guard.check())})
    llm.shutdown()
    return told


def main(kind: str, model: str, out: Path, cycles: list[str]) -> None:
    """Build the engine, guard it, and write down what came of it."""
    flags: dict[str, Any] = {
        "model": model,
        "enable_sleep_mode": True,
        "dtype": "float32",
        "enforce_eager": True,
        "block_size": 32,
        "max_model_len": 1024,
    }
    told = (
        guard_llm(flags, out, cycles) if kind == "LLM" else asyncio.run(guard_async_llm(flags, out, cycles))
    )
    (out / "told.json").write_text(json.dumps(told, indent=1, default=str))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
