"""``python -m tests.benchmarks.five_minutes``: from an empty folder to a verdict, every command timed.

Builds the wheel of this tree and starts an ordinary vLLM server, with the vLLM of this environment; neither
is counted.  Then it types what a newcomer types, in an empty folder with a fresh environment and the wheel
alone, and prints what docs/five_minutes.md shows.  ``--endpoint URL`` takes a server that is running already.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from harness.models.model import provide_model
from tests.action_steps import bare_environment

ROOT = Path(__file__).parents[2]
PORT = 8123
BOOT_S = 1800.0

IN_ENVIRONMENT = "python3 -m venv .venv"
"""What every way begins with; later commands find the environment's programs first."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command, and what it is there for."""

    what: str
    command: str
    gives_verdict: bool = False


@dataclass(frozen=True, kw_only=True)
class Timed:
    """How a step ended, and when."""

    step: Step
    code: int
    seconds: float


def steps(endpoint: str, *, wheel: str) -> tuple[Step, ...]:
    """What is typed, in order."""
    return (
        Step(what="an environment", command=IN_ENVIRONMENT),
        Step(what="install", command=f"pip install '{wheel}[run,report]'"),
        Step(what="look", command="sleepwake doctor"),
        Step(what="begin", command=f"sleepwake init --endpoint {endpoint} --ci github"),
        Step(
            what="the shortest verdict",
            command=f"sleepwake run --smoke --endpoint {endpoint}",
            gives_verdict=True,
        ),
        Step(
            what="the verdict of what `init` wrote",
            command=f"sleepwake run tests/sleep --endpoint {endpoint}",
            gives_verdict=True,
        ),
        Step(what="judge it again", command="sleepwake check"),
    )


def table(timed: Iterable[Timed]) -> str:
    """A row for each step, and how long it took until there was a verdict for the first time."""
    lines = ["| step | command | exit | seconds | since the beginning |", "|---|---|---:|---:|---:|"]
    total, first = 0.0, None
    for each in timed:
        total += each.seconds
        if each.step.gives_verdict and first is None:
            first = total
        lines.append(
            f"| {each.step.what} | `{each.step.command}` | {each.code} | {each.seconds:.0f} | {total:.0f} |"
        )
    told = "no verdict" if first is None else f"{first:.0f} s"
    return "\n".join((*lines, "", f"To the first verdict: {told}."))


def walk(typed: Iterable[Step], *, folder: Path) -> Iterator[Timed]:
    """Type each command in ``folder``; what it prints goes where ours goes."""
    programs = folder / ".venv" / "bin"
    environment = {**bare_environment(), "PATH": f"{programs}:{os.environ['PATH']}"}
    for step in typed:
        print(f"$ {step.command}", flush=True)  # noqa: T201 - what is typed stands above what came
        start = time.monotonic()
        done = subprocess.run(["/bin/bash", "-c", step.command], cwd=folder, env=environment, check=False)
        yield Timed(step=step, code=done.returncode, seconds=time.monotonic() - start)


@contextmanager
def ordinary_server(log: Path) -> Iterator[str]:
    """A vLLM server as its users start it, in bfloat16, with sleep mode; its address, once it is ready."""
    model = provide_model(dtype="bfloat16").folder
    flags = (
        f"--model {shlex.quote(str(model))} --served-model-name smollm --enable-sleep-mode --dtype bfloat16"
    )
    command = f"{flags} --enforce-eager --max-model-len 2048 --host 127.0.0.1 --port {PORT}"
    told = {"VLLM_SERVER_DEV_MODE": "1", "SLEEPWAKE_CPU_SLEEP": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *shlex.split(command)]
    with log.open("wb") as output:
        process = subprocess.Popen(server, env={**os.environ, **told}, stdout=output, stderr=output)
        try:
            address = f"http://127.0.0.1:{PORT}"
            ends = time.monotonic() + BOOT_S
            while not _is_up(address):
                if process.poll() is not None or time.monotonic() > ends:
                    raise RuntimeError(f"the server did not start: see {log}")
                time.sleep(1)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def _is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


def main() -> None:
    """Build, start, type, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", help="a server that is running already; without it, one is started")
    asked = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "empty"
        folder.mkdir()
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
        subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", temporary, str(ROOT)], check=True)
        (wheel,) = Path(temporary).glob("*.whl")
        if asked.endpoint:
            timed = list(walk(steps(asked.endpoint, wheel=str(wheel)), folder=folder))
        else:
            with ordinary_server(Path(temporary) / "server.log") as endpoint:
                timed = list(walk(steps(endpoint, wheel=str(wheel)), folder=folder))
        print(f"\n{table(timed)}".replace(f"{temporary}/", ""))  # noqa: T201 - what it is run for


if __name__ == "__main__":
    main()
