"""The programs under ``examples/``, on a real engine: sound, and with each mistake that they can plant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.models.model import provide_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[1]


def run(program: str, *words: str, out: Path) -> tuple[int, str]:
    """Run an example; return its exit code and what it printed."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "harness" / "public"))),
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    model = provide_model(dtype="float32").location
    done = subprocess.run(
        [sys.executable, f"examples/{program}.py", "--model", model, "--out", str(out), *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (out / "stderr.log").write_text(done.stderr)
    return done.returncode, done.stdout


def test_a_training_loop_ends_clean(tmp_path: Path) -> None:
    """The engine answers as its trainer does at every step."""
    code, told = run("training_loop", "--steps", "2", out=tmp_path)
    assert (code, told.count("guard: clean, nothing wrong")) == (0, 2), told


@pytest.mark.parametrize(
    ("program", "fault", "cause"),
    [
        ("training_loop", "lose-a-tensor", "lost weights"),
        ("training_loop", "forget-the-transfer", "lost weights"),
        ("async_loop", "lose-a-tensor", "lost weights"),
        ("async_loop", "forget-the-reset", "stale prefix cache"),
    ],
)
def test_a_training_loop_stops_at_the_step_that_went_wrong(
    tmp_path: Path, program: str, fault: str, cause: str
) -> None:
    """The first step is clean, what is wrong at the second is named."""
    code, told = run(program, "--fault", fault, out=tmp_path)
    assert (code, told.count("guard: clean"), told.count(f"guard: corrupt, {cause}")) == (1, 1, 1), told
