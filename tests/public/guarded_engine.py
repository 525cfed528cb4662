"""Guards a real engine of vLLM on a CPU, as a program of its own, and writes down what the guard says.

``python -m tests.public.guarded_engine LLM|AsyncLLM MODEL OUT CYCLE ...``.  A cycle is

* ``level1``, or at level 2 ``reloaded`` (the weights are loaded again) or ``bare`` (they are not),
* ``transferred`` (a trainer hands over the weights that the engine has) or ``partial`` (a tensor is lost),
* ``adapter``, which takes the place of all before: another guard asks the first adapter, whose place the
  second one takes under the same name and path.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sleepwake

LOST = "*.layers.0.self_attn.v_proj.weight"
"""Which tensor does not arrive in a ``partial`` transfer."""

NAME = "adapter"


class Engine:
    """An ``LLM`` or an ``AsyncLLM``, called as the other one is."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    async def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method, and wait where it has to be waited for."""
        result = getattr(self.llm, name)(*arguments, **named)
        return await result if inspect.isawaitable(result) else result

    async def update(self, weights: str, *, version: str, leave_out: tuple[str, ...] = ()) -> None:
        """Hand weights over as a trainer does."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        told = {"folder": weights, "leave_out": list(leave_out)}
        await self.call("start_weight_update")
        await self.call("update_weights", WeightTransferUpdateRequest(update_info=told))
        await self.call("finish_weight_update", version)


async def level1(engine: Engine, _: str) -> None:
    """Sleep and wake up with a copy of the weights."""
    await engine.call("sleep", level=1)
    await engine.call("wake_up")


async def reloaded(engine: Engine, _: str) -> None:
    """Sleep without one, as vLLM documents it."""
    await engine.call("sleep", level=2)
    await engine.call("wake_up", tags=["weights"])
    await engine.call("collective_rpc", "reload_weights")
    await engine.call("wake_up", tags=["kv_cache"])


async def bare(engine: Engine, _: str) -> None:
    """Sleep without one, and forget to load the weights."""
    await engine.call("sleep", level=2)
    await engine.call("wake_up")


async def transferred(engine: Engine, model: str) -> None:
    """Hand over what the engine has."""
    await engine.update(model, version="same")


async def partial(engine: Engine, model: str) -> None:
    """Hand over what the engine has, but for a tensor."""
    await engine.update(model, version="same", leave_out=(LOST,))


CYCLES: Mapping[str, Callable[[Engine, str], Awaitable[None]]] = MappingProxyType(
    {each.__name__: each for each in (level1, reloaded, bare, transferred, partial)}
)


async def guard_of(llm: Any, **settings: Any) -> Any:
    """A guard of either kind."""
    if inspect.iscoroutinefunction(llm.sleep):
        return await sleepwake.async_guard(llm, **settings)
    return sleepwake.guard(llm, **settings)


async def guard_weights(llm: Any, model: str, out: Path, cycles: list[str]) -> list[dict[str, Any]]:
    """Check an engine after each cycle."""
    began = time.monotonic()
    guard = await guard_of(llm, out=out)
    told: list[dict[str, Any]] = [{"baseline_seconds": time.monotonic() - began}]
    for cycle in cycles:
        await CYCLES[cycle](Engine(llm), model)
        told.append({"cycle": cycle, **asdict(await Engine(guard).call("check"))})
    await Engine(guard).call("close")
    return told


async def guard_adapter(llm: Any, adapters: list[str], out: Path) -> dict[str, Any]:
    """Check an adapter in whose place another one is loaded."""
    from vllm.lora.request import LoRARequest

    place = out / NAME
    shutil.copytree(adapters[0], place)
    guard = await guard_of(llm, out=out, lora_request=LoRARequest(NAME, 1, str(place)))
    shutil.copytree(adapters[1], place, dirs_exist_ok=True)
    exchanged = LoRARequest(NAME, 1, str(place), load_inplace=True)
    await Engine(getattr(llm, "llm_engine", llm)).call("add_lora", exchanged)
    await Engine(guard).call("expect_new_weights")
    told = {"cycle": "adapter", **asdict(await Engine(guard).call("check"))}
    await Engine(guard).call("close")
    return told


async def main(options: argparse.Namespace) -> None:
    """Build the engine, guard it, and write down what came of it."""
    flags: dict[str, Any] = {
        "model": options.model,
        "enable_sleep_mode": True,
        "dtype": options.dtype,
        "enforce_eager": True,
        "block_size": 32,
        "max_model_len": 1024,
        "weight_transfer_config": {"backend": "sleepwake"},
    }
    if options.adapters:
        flags |= {"enable_lora": True, "max_lora_rank": 8}
    if options.kind == "LLM":
        from vllm import LLM

        llm: Any = LLM(**flags)
    else:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**flags))
    cycles = [cycle for cycle in options.cycles if cycle != "adapter"]
    told = await guard_weights(llm, options.model, options.out, cycles)
    if "adapter" in options.cycles:
        told.append(await guard_adapter(llm, options.adapters, options.out))
    (options.out / "told.json").write_text(json.dumps(told, indent=1, default=str))
    if options.kind != "LLM":
        llm.shutdown()


def parsed(words: list[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("LLM", "AsyncLLM"))
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("cycles", nargs="+", choices=(*CYCLES, "adapter"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--adapters", nargs=2, default=())
    return parser.parse_args(words)


if __name__ == "__main__":
    asyncio.run(main(parsed(sys.argv[1:])))
