"""The programs under ``examples/``, on a real engine: sound, and with each mistake that they can plant."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from harness.models.model import provide_model

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[1]


def run(program: str, *words: str, out: Path, python: str = sys.executable) -> tuple[int, str]:
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
        [python, f"examples/{program}.py", "--model", model, "--out", str(out), *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (out / "stderr.log").write_text(done.stderr)
    return done.returncode, done.stdout


@pytest.mark.engine
def test_a_training_loop_ends_clean(tmp_path: Path) -> None:
    """The engine answers as its trainer does at every step."""
    code, told = run("training_loop", "--steps", "2", out=tmp_path)
    assert (code, told.count("guard: clean, nothing wrong")) == (0, 2), told


@pytest.mark.engine
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


@pytest.fixture(scope="session")
def with_trl(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has TRL, and the rest from the environment of these tests."""
    folder = tmp_path_factory.mktemp("trl") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "packages-of-the-tests.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    python = str(folder / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", python)
    subprocess.run([*pip, "install", "-r", str(ROOT / "examples" / "requirements-trl.txt")], check=True)
    return python


@pytest.mark.trl
@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (None, 0, ["clean", "clean"]),
        ("lose-a-tensor", 1, ["clean", "corrupt, lost weights"]),
        ("forget-the-push", 1, ["clean", "corrupt, lost weights"]),
    ],
)
def test_trl_trains_until_its_engine_is_wrong(
    tmp_path: Path, with_trl: str, fault: str | None, code: int, said: list[str]
) -> None:
    """Its own GRPO trainer, with the engine in the same process."""
    words = () if fault is None else ("--fault", fault)
    ended, told = run("trl_grpo", *words, out=tmp_path, python=with_trl)
    verdicts = [line.partition("guard: ")[2] for line in told.splitlines() if "guard: " in line]
    assert (ended, [each.removesuffix(", nothing wrong") for each in verdicts]) == (code, said), told
