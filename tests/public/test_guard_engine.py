"""A guard on a real engine in its user's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.check.result import Cause, Verdict
from harness.models.model import provide_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def guarded(
    out: Path, *cycles: str, kind: str = "LLM", multiprocessing: bool = True, fault: str = ""
) -> list[tuple[str, str | None]]:
    """The verdict and the cause of a check after each cycle, of an engine in a process of its own."""
    model = provide_model(dtype="float32").location
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "harness" / "public"))),
        "SLEEPWAKE_CPU_SLEEP": "1",
        "SLEEPWAKE_FAULT": fault,
        "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(multiprocessing)),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with (out / "engine.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.public.guarded_engine", kind, model, str(out), *cycles],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    _, *checks = json.loads((out / "told.json").read_text())
    return [(check["verdict"], check["cause"]) for check in checks]


SOUND = ("level1", "reloaded", "level1", "bare")
CLEAN = (Verdict.CLEAN, None)


@pytest.mark.parametrize("kind", ["LLM", "AsyncLLM"])
def test_a_sound_engine_is_clean_until_its_weights_are_lost(tmp_path: Path, kind: str) -> None:
    """Level 1, level 2 with a reload, and without one, in an engine that computes in another process."""
    lost = (Verdict.CORRUPT, Cause.LOST_WEIGHTS)
    assert guarded(tmp_path, *SOUND, kind=kind) == [CLEAN, CLEAN, CLEAN, lost]


def test_the_founding_bug_is_found_in_process(tmp_path: Path) -> None:
    """A prefix cache that outlives its blocks, in an engine that computes in its user's process."""
    told = guarded(tmp_path, "level1", "level1", multiprocessing=False, fault="keep-prefix-cache")
    assert told == [(Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE)] * 2
