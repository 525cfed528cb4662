"""Interrupts runs on a server that is not theirs at random moments: it must be awake and answer as before.

``python -m tests.torture.interruptions --times 30`` sends SIGINT, SIGTERM or, a third of the time, SIGKILL,
after which the next start has to give the server back.  Its answers must be those that it gave before it was
touched, computed as well as from its cache: a server in float32 gives them.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.fake_vllm.threads import Served
from tests.small_scenario import REAL_PROMPTS, write_scenario

REPOSITORY = Path(__file__).parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
DEADLINE_S = 900.0
"""For a run that was interrupted to end, and for one that comes after it."""

QUESTION = "A river rises in the hills and flows through the town, past the mill and the old bridge, " * 6
"""Longer than three blocks of the prefix cache."""

LONGER = REAL_PROMPTS.replace(
    "  - sleep: {}\n  - wake_up: {}\n",
    "  - repeat: 200\n    steps:\n      - sleep: {level: 2}\n      - wake_up: {}\n"
    "      - reload_weights: {}\n      - pause: {}\n      - resume: {}\n",
)
"""Far longer than anybody waits, and hardly ever at rest for long."""


def main() -> int:
    """Interrupt as often as asked; end with 1 if the server was not as it was even once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--endpoint", help="a server to use instead of the fake")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, Served() as served:
        endpoint = asked.endpoint or served.start()
        bad = list(interrupted(endpoint, Path(folder), times=asked.times, seed=asked.seed))
    for each in bad:
        sys.stdout.write(f"{each}\n")
    sys.stdout.write(f"{asked.times - len(bad)} of {asked.times} times awake and answering\n")
    return 1 if bad else 0


def interrupted(endpoint: str, folder: Path, *, times: int, seed: int) -> Iterator[str]:
    """Interrupt runs on ``endpoint``; yield what was wrong with it afterwards."""
    whole, longer = folder / "whole", folder / "longer"
    write_scenario(whole, REAL_PROMPTS)
    write_scenario(longer, LONGER)
    draw = random.Random(seed)  # noqa: S311 - no secret
    asleep: Counter[bool] = Counter()
    before = _answers(endpoint)
    for number in range(times):
        with _run(longer, endpoint) as run:
            _wait_until_begun(run, folder)
            time.sleep(draw.uniform(0, 2))
            asleep[_state(endpoint)["is_sleeping"]] += 1
            chosen = SIGNALS[number % len(SIGNALS)]
            ended_by_itself = run.poll() is not None
            run.send_signal(chosen)
            said = run.communicate(timeout=DEADLINE_S)[0]
        if chosen is signal.SIGKILL:
            with _run(whole, endpoint) as run:
                said = run.communicate(timeout=DEADLINE_S)[0]
        problem = "it ended by itself" if ended_by_itself else _wrong(endpoint, before)
        if chosen is not signal.SIGKILL and f"{endpoint} is as it was found" not in said:
            problem = problem or "whoever interrupts it is not told how the server is"
        sys.stderr.write(f"{number + 1} of {times}, {chosen.name}: {problem or 'awake and answering'}\n")
        if problem:
            yield f"{number}, {chosen.name}: {problem}\n{said}"
    sys.stdout.write(f"caught at rest {asleep[True]} of {times} times\n")


@contextmanager
def _run(scenarios: Path, endpoint: str) -> Iterator[subprocess.Popen[str]]:
    cache = str(scenarios.parent / "cache")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "SLEEPWAKE_CACHE": cache}
    program = [sys.executable, "-c", "from harness.cli import main; main()"]
    command = [*program, "run", "scenarios/small.yaml", "--endpoint", endpoint]
    with subprocess.Popen(
        command, cwd=scenarios, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def _wait_until_begun(run: subprocess.Popen[str], folder: Path) -> None:
    """Return once the run owes the server something, or has ended."""
    until = time.monotonic() + DEADLINE_S
    while run.poll() is None and not list((folder / "cache" / "attached").glob("*.json")):
        if time.monotonic() > until:
            raise TimeoutError("the run never touched the server")
        time.sleep(0.02)


def _state(endpoint: str) -> dict[str, bool]:
    return {
        **httpx.get(f"{endpoint}/is_sleeping", timeout=60).json(),
        **httpx.get(f"{endpoint}/is_paused", timeout=60).json(),
    }


def _wrong(endpoint: str, before: list[str]) -> str | None:
    """What is not as it was; None where nothing is."""
    if any((state := _state(endpoint)).values()):
        return str(state)
    if (now := _answers(endpoint)) != before:
        return f"it answers {now}, and answered {before} before"
    return None


def _answers(endpoint: str) -> list[str]:
    """What it says to one prompt, computed anew and perhaps from its cache; or the status of its answer."""
    model = httpx.get(f"{endpoint}/v1/models", timeout=60).json()["data"][0]["id"]
    asked = {"model": model, "prompt": QUESTION, "max_tokens": 16, "temperature": 0}
    answers = [
        httpx.post(f"{endpoint}/v1/completions", json={**asked, **salt}, timeout=60)
        for salt in ({"cache_salt": uuid.uuid4().hex}, {})
    ]
    return [
        answer.json()["choices"][0]["text"] if answer.is_success else str(answer.status_code)
        for answer in answers
    ]


if __name__ == "__main__":
    sys.exit(main())
