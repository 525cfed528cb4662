"""Servers that are left running on request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness.servers.process.runtime import ProcessRuntime
from tests.servers.conftest import TOY_ENGINE, SpecFactory
from tests.servers.process.test_runtime import nothing_remembered

REPOSITORY = Path(__file__).parents[3]


def is_healthy(url: str) -> bool:
    """Whether a toy engine answers there."""
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_a_kept_server_outlives_its_harness_until_it_is_cleaned_up(
    tmp_path: Path, cache: Path, runtime: ProcessRuntime
) -> None:
    """The harness ends, the server answers; the sweep of the next run spares it, `clean` does not."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.servers.process.keeping_harness", str(cache), str(tmp_path / "log")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    url, stop = done.stdout.splitlines()
    assert is_healthy(url)
    assert stop.startswith("kill ")
    assert runtime.sweep() == []
    assert is_healthy(url)
    (sentence,) = runtime.sweep(kept_too=True)
    assert "of cell scenario/arm, run run-1" in sentence
    assert not is_healthy(url)
    assert nothing_remembered(cache)


@pytest.mark.anyio
async def test_a_server_that_died_is_not_kept(make_spec: SpecFactory, cache: Path) -> None:
    """There is nothing to look at: it is put away like any other."""
    runtime = ProcessRuntime(
        engine_command=TOY_ENGINE, engine="cpu", cache=cache, stop_grace_s=0.5, keep=True
    )
    async with runtime.start(make_spec()) as server:
        os.kill(int(server.facts.identity or 0), signal.SIGKILL)
        while await server.death() is None:
            pass
    assert not runtime.kept
    assert nothing_remembered(cache)
