"""Guards a real engine of vLLM on a CPU, as a program of its own, and writes down what the guard says.

``python -m tests.public.guarded_engine LLM|AsyncLLM|actor|server MODEL OUT CYCLE ...``.  A cycle is

* ``level1``, or at level 2 ``reloaded`` (the weights are loaded again) or ``bare`` (they are not),
* ``transferred`` (a trainer hands over the weights that the engine has) or ``partial`` (a tensor is lost),
* ``adapter``, after all before: another guard asks the first adapter, whose place the second one takes under
  the same name and path; ``adapter-by-reference`` is the same, judged by an engine that has the second one
  already, once while this one has not loaded it, and once when it has.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import functools
import inspect
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

import sleepwake
from sleepwake._ray_actor import is_actor

LOST = "*.layers.0.self_attn.v_proj.weight"
"""Which tensor does not arrive in a ``partial`` transfer."""

NAME = "adapter"


class Engine:
    """An ``LLM``, an ``AsyncLLM``, an actor of Ray or the address of a server, called as the others are."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    async def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method, and wait where it has to be waited for."""
        if isinstance(self.llm, str):
            return over_http(self.llm, name, *arguments, **named)
        method = getattr(self.llm, name)
        if is_actor(self.llm):
            return await method.remote(*arguments, **named)
        result = method(*arguments, **named)
        return await result if inspect.isawaitable(result) else result

    async def update(self, weights: str, *, version: str, leave_out: tuple[str, ...] = ()) -> None:
        """Hand weights over as a trainer does."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        told = {"folder": weights, "leave_out": list(leave_out)}
        await self.call("start_weight_update")
        await self.call("update_weights", WeightTransferUpdateRequest(update_info=told))
        await self.call("finish_weight_update", version)


def over_http(address: str, name: str, method: str | None = None, **query: Any) -> None:
    """Call the endpoint that does what the method of that name does."""
    payload = None if method is None else {"method": method}
    httpx.post(f"{address}/{name}", params=query, json=payload, timeout=300).raise_for_status()


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
    """A guard of either kind, whose every check is a full one."""
    settings["full_every"] = 1
    if inspect.iscoroutinefunction(getattr(llm, "sleep", None)):
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
    async with adapter_in_place(llm, adapters, out) as (guard, load):
        await load()
        await Engine(guard).call("expect_new_weights")
        return {"cycle": "adapter", **asdict(await Engine(guard).call("check"))}


async def guard_adapter_by_reference(
    llm: Any, adapters: list[str], out: Path, build: Callable[[], Any]
) -> list[dict[str, Any]]:
    """Check an adapter in whose place another one lies, before and after it is loaded."""
    async with adapter_in_place(llm, adapters, out) as (guard, load):
        await Engine(guard).call("expect_new_weights", reference=build())
        before = await Engine(guard).call("check")
        await load()
        after = await Engine(guard).call("check")
    return [{"cycle": "adapter-not-loaded", **asdict(before)}, {"cycle": "adapter-loaded", **asdict(after)}]


@asynccontextmanager
async def adapter_in_place(
    llm: Any, adapters: list[str], out: Path
) -> AsyncIterator[tuple[Any, Callable[[], Awaitable[None]]]]:
    """Guard the first adapter and put the second one in its place; yields the guard, and what loads it."""
    from vllm.lora.request import LoRARequest

    place = out / NAME
    shutil.copytree(adapters[0], place)
    guard = await guard_of(llm, out=out, lora_request=LoRARequest(NAME, 1, str(place)))
    shutil.copytree(adapters[1], place, dirs_exist_ok=True)

    async def load() -> None:
        exchanged = LoRARequest(NAME, 1, str(place), load_inplace=True)
        await Engine(getattr(llm, "llm_engine", llm)).call("add_lora", exchanged)

    yield guard, load
    await Engine(guard).call("close")


def where_it_computes(kind: str) -> str:
    """Whether vLLM made a process for the engine, whatever it was told."""
    names = {child.name() for child in psutil.Process().children(recursive=True)}
    if any("EngineCor" in name for name in names):
        return "a process of its own"
    return "the actor's process" if kind == "actor" else "the user's process"


def build_llm(flags: dict[str, Any]) -> Any:
    """Build one in this process."""
    from vllm import LLM

    return LLM(**flags)


def build_async_llm(flags: dict[str, Any]) -> Any:
    """Build one in this process."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**flags))


def build_actor(flags: dict[str, Any]) -> Any:
    """Build an ``LLM`` that is an actor, on a cluster of this machine alone."""
    import ray
    from vllm import LLM

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    return ray.remote(LLM).remote(**flags)


def build_server(flags: dict[str, Any]) -> str:
    """Start vLLM's own server beside this program, and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = {
        **flags,
        "host": "127.0.0.1",
        "port": port,
        "generation_config": "vllm",
        "enable_prompt_tokens_details": True,
    }
    words: list[str] = []
    for name, value in named.items():
        words += (
            [f"--{name.replace('_', '-')}"]
            if value is True
            else [f"--{name.replace('_', '-')}={told(value)}"]
        )
    process = subprocess.Popen([sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words])
    atexit.register(process.wait)
    atexit.register(process.terminate)
    address = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/health").is_success:
                return address
        time.sleep(1)
    raise RuntimeError(f"the server ended with {process.returncode}")


def told(value: Any) -> str:
    """A flag's value in words."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


BUILT: Mapping[str, Callable[[dict[str, Any]], Any]] = MappingProxyType(
    {"LLM": build_llm, "AsyncLLM": build_async_llm, "actor": build_actor, "server": build_server}
)


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

    build = functools.partial(BUILT[options.kind], flags)
    llm = build()
    computes_in = where_it_computes(options.kind)
    cycles = [cycle for cycle in options.cycles if cycle in CYCLES]
    told = await guard_weights(llm, options.model, options.out, cycles)
    told[0]["computes_in"] = computes_in
    if "adapter" in options.cycles:
        told.append(await guard_adapter(llm, options.adapters, options.out))
    if "adapter-by-reference" in options.cycles:
        told += await guard_adapter_by_reference(llm, options.adapters, options.out, build)
    (options.out / "told.json").write_text(json.dumps(told, indent=1, default=str))
    if options.kind == "AsyncLLM":
        llm.shutdown()


def parsed(words: list[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=tuple(BUILT))
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("cycles", nargs="+", choices=(*CYCLES, "adapter", "adapter-by-reference"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--adapters", nargs=2, default=())
    return parser.parse_args(words)


if __name__ == "__main__":
    asyncio.run(main(parsed(sys.argv[1:])))
