"""A harness that starts a toy engine, says what it started, and waits for its own end.

Run as ``python -m tests.servers.doomed_harness process CACHE LOG TOY_FLAGS...`` or
``... docker IMAGE LOG TOY_FLAGS...``.
"""

import sys
from pathlib import Path

import anyio
import httpx

from harness.servers.base import Runtime, ServerSpec
from harness.servers.docker.engine import PulledImage
from harness.servers.docker.runtime import DockerRuntime
from harness.servers.process.runtime import ProcessRuntime
from tests.servers import toy_engine


def make_runtime(kind: str, argument: str) -> Runtime:
    """Return the runtime the command line names."""
    if kind == "docker":
        return DockerRuntime(image=PulledImage(argument), engine="cpu")
    toy_command = (sys.executable, toy_engine.__file__)
    return ProcessRuntime(engine_command=toy_command, engine="cpu", cache=Path(argument), stop_grace_s=0.5)


async def main(*arguments: str) -> None:
    """Print the identity and the processes, a line each, once the engine is ready; then wait."""
    kind, argument, log, *flags = arguments
    spec = ServerSpec(
        run_id="run-1",
        cell="scenario/arm",
        model="toy/model",
        served_model_name="toy",
        args=tuple(flags),
        log_path=Path(log),
        boot_deadline_s=30,
    )
    async with (
        make_runtime(kind, argument).start(spec) as server,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        pids = (await client.get(f"{server.base_url}/pids")).text
        sys.stdout.write(f"{server.facts.identity}\n{pids}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
