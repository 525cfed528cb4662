"""A harness that keeps the toy engine it started, says where it answers, and ends.

Run as ``python -m tests.servers.process.keeping_harness CACHE LOG TOY_FLAGS...``.
"""

import sys
from pathlib import Path

import anyio

from harness.servers.base import ServerSpec
from harness.servers.process.runtime import ProcessRuntime
from tests.servers import toy_engine


async def main(*arguments: str) -> None:
    """Print the address of the engine and the command that ends it."""
    cache, log, *flags = arguments
    toy_command = (sys.executable, toy_engine.__file__)
    runtime = ProcessRuntime(
        engine_command=toy_command, engine="cpu", cache=Path(cache), stop_grace_s=0.5, keep=True
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
    async with runtime.start(spec):
        pass
    for kept in runtime.kept:
        sys.stdout.write(f"{kept.base_url}\n{kept.stop}\n")


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
