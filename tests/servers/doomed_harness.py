"""A harness that starts a toy engine, says which processes it has, and waits for its own end.

Run as ``python doomed_harness.py CACHE LOG TOY_FLAGS...``.
"""

import sys
from pathlib import Path

import anyio
import httpx

from harness.servers.base import ServerSpec
from harness.servers.process import ProcessRuntime
from tests.servers import toy_engine


async def main(*arguments: str) -> None:
    """Print the processes as one line of JSON once the engine is ready, then wait."""
    cache, log, *flags = arguments
    runtime = ProcessRuntime(
        engine_command=(sys.executable, toy_engine.__file__),
        engine="cpu",
        cache=Path(cache),
        stop_grace_s=0.5,
    )
    spec = ServerSpec(
        run_id="run-1",
        cell="scenario/arm",
        model="toy/model",
        served_model_name="toy",
        args=tuple(flags),
        log_path=Path(log),
        boot_deadline_s=30,
    )
    async with runtime.start(spec) as server:
        async with httpx.AsyncClient(trust_env=False) as client:
            sys.stdout.write((await client.get(f"{server.base_url}/pids")).text + "\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
