"""``python -m tests.torture.beside_load``: a run on a server that others use at the same time.

Without ``--allow-busy`` it must be refused before anything is done.  With it, others' requests must be
counted and told, those among them that a sleep aborted as well, and nothing may be proven of speed or
memory.  The server is a fake, or the one at ``--endpoint``.  Ends with 1 if one of these is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from harness.errors import ExitCode
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.small_scenario import REAL_PROMPTS, write_scenario

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 1800.0
AT_A_TIME = 4
TOKENS = 64


@contextmanager
def load(endpoint: str) -> Iterator[Counter[str]]:
    """Ask as others do, a few at a time, until the block is left; yields how requests ended."""
    model = httpx.get(f"{endpoint}/v1/models", timeout=60).json()["data"][0]["id"]
    ends: Counter[str] = Counter()
    stop = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(timeout=DEADLINE_S) as http:
            while not stop.is_set():
                asked = {
                    "model": model,
                    "prompt": f"{number} A river",
                    "max_tokens": TOKENS,
                    "ignore_eos": True,
                }
                try:
                    answer = http.post(f"{endpoint}/v1/completions", json=asked)
                    told = answer.json()["choices"][0]["finish_reason"] if answer.is_success else "refused"
                except httpx.TransportError:
                    told = "cut off"
                ends[str(told)] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(AT_A_TIME)]
    for thread in threads:
        thread.start()
    try:
        yield ends
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def run(folder: Path, endpoint: str, *words: str) -> tuple[int, str]:
    """A run, with its exit code and all that it said."""
    path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'harness' / 'public'}"
    environment = {**os.environ, "PYTHONPATH": path, "SLEEPWAKE_CACHE": str(folder / "cache")}
    command = [
        sys.executable,
        "-m",
        "sleepwake",
        "run",
        "scenarios/small.yaml",
        "--endpoint",
        endpoint,
        *words,
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return done.returncode, done.stdout + done.stderr


def cycling(times: int) -> str:
    """The scenario with its sleep repeated so often; speed is judged where it sleeps at least twice."""
    script, sleeps = REAL_PROMPTS.split("  - sleep: {}\n")
    steps = "".join(f"    {line}\n" for line in ("  - sleep: {}", *sleeps.splitlines()))
    return f"{script}  - repeat: {times}\n    steps:\n{steps}"


def wrong(endpoint: str, folder: Path) -> Iterator[str]:
    """Whatever is not as it must be."""
    with load(endpoint) as ends:
        code, said = run(folder, endpoint)
        if code != ExitCode.INFRASTRUCTURE or (folder / "reports").exists():
            yield f"it was not refused: {code}\n{said}"
        code, said = run(folder, endpoint, "--allow-busy")
    _say(f"beside others: exit code {code}; their requests ended so: {dict(ends)}")
    (cell,) = json.loads((folder / "reports" / "latest" / "verdict.json").read_text(encoding="utf-8"))[
        "cells"
    ]
    _say(f"{cell['verdict']}: {cell['reason']}")
    told = [line for line in said.splitlines() if "others sent" in line]
    _say("\n".join(told))
    if not told:
        yield f"it does not tell of others:\n{said}"
    if ends["abort"] and not any("aborted" in line for line in told):
        yield f"{ends['abort']} requests were aborted, and it does not tell so"
    proofs = [each for each in cell["findings"] if each["strength"] == "proof"]
    if proofs:
        yield f"it claims to have proven: {proofs}"
    if code not in {ExitCode.CLEAN, ExitCode.INCONCLUSIVE}:
        yield f"exit code {code}\n{said}"


def main() -> int:
    """Try it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", help="a server to use instead of the fake")
    parser.add_argument(
        "--cycles", type=int, default=1, help="of sleeping and waking; speed is judged from 2"
    )
    asked = parser.parse_args()
    slow = Misbehaviour({Behaviour.SLOW: 20})
    with TemporaryDirectory() as folder, Served() as served:
        write_scenario(Path(folder), cycling(asked.cycles))
        found = list(wrong(asked.endpoint or served.start(slow), Path(folder)))
    _say("\n".join(found or ["as it must be"]))
    return 1 if found else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
