"""What the harness itself costs: processor time and memory of its own process over one cell.

``python -m tests.benchmarks.overhead PROMPTS CYCLES`` runs one cell against a fake server in another
process and prints the numbers as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

from harness.check import judge
from harness.drive.cell import run_cell
from harness.drive.job import CellJob
from harness.history.events import Event
from harness.history.passes import Answer
from harness.history.recording import load_recording
from harness.models.model import model_in_folder
from harness.scenario.cells import load_cells
from harness.servers.process.runtime import ProcessRuntime
from tests.fake_vllm import vocabulary
from tests.fake_vllm.options import DEFAULT_MODEL

SIZES = ((10, 7), (100, 97))
"""Prompts and cycles: 100 and 10,000 answers, as the baseline is a pass and the null transition two."""
MAX_TOKENS = 16
_SCENARIO = f"""\
name: overhead
why: to be measured
arms: {{only: {{}}}}
evidence: [warm]
prompts: {{corpus: words, count: PROMPTS, held_out: 0}}
sampling: {{max_tokens: {MAX_TOKENS}}}
script:
  - probe: baseline
  - null_transition: {{}}
  - repeat: CYCLES
    steps:
      - sleep: {{}}
      - wake_up: {{}}
      - probe: after-wake
"""


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What one cell took.  ``judging_`` is what was added by judging it at its end."""

    answers: int
    wall_seconds: float
    cpu_seconds: float
    judging_cpu_seconds: float
    peak_mib: float
    judging_peak_mib: float


def measure(*, prompts: int, cycles: int) -> Overhead:
    """Run one cell in a process of its own and measure that process."""
    words = [str(prompts), str(cycles)]
    command = [sys.executable, "-m", "tests.benchmarks.overhead", *words]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Overhead(**json.loads(output))


def measure_here(folder: Path, *, prompts: int, cycles: int) -> Overhead:
    """Run one cell in this process; the engine is another one and is not counted."""
    job, runtime = one_cell(folder, prompts=prompts, cycles=cycles)
    answers = 0

    def watch(event: Event) -> None:
        nonlocal answers
        answers += isinstance(event, Answer)

    began, cpu_before = time.monotonic(), time.process_time()
    anyio.run(lambda: run_cell(job, runtime, watcher=watch))
    wall, cpu_after, peak = time.monotonic() - began, time.process_time(), _peak_mib()
    judge(load_recording(job.directory))
    return Overhead(
        answers=answers,
        wall_seconds=wall,
        cpu_seconds=cpu_after - cpu_before,
        judging_cpu_seconds=time.process_time() - cpu_after,
        peak_mib=peak,
        judging_peak_mib=_peak_mib(),
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_cell(folder: Path, *, prompts: int, cycles: int) -> tuple[CellJob, ProcessRuntime]:
    """A cell that asks so many prompts in so many cycles, and the runtime that starts its fake."""
    model = folder / DEFAULT_MODEL
    model.mkdir()
    configuration = {"eos_token_id": vocabulary.END_OF_SEQUENCE, "vocab_size": vocabulary.SIZE}
    (model / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
    (folder / "corpora").mkdir()
    texts = (f"- {{id: p{i}, text: {i} {' '.join(['river city music'] * 40)}}}\n" for i in range(prompts))
    (folder / "corpora" / "words.yaml").write_text("".join(texts), encoding="utf-8")
    scenario = folder / "overhead.yaml"
    scenario.write_text(_SCENARIO.replace("PROMPTS", str(prompts)).replace("CYCLES", str(cycles)))
    job = CellJob(
        cell=load_cells([scenario])[0],
        run_id="overhead",
        directory=folder / "out",
        model=model_in_folder(model, dtype="float32"),
    )
    fake = (sys.executable, "-m", "tests.fake_vllm")
    return job, ProcessRuntime(engine_command=fake, engine="cpu", cache=folder / "cache")


def main() -> None:
    """Measure once and print it."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    prompts, cycles = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        measured = measure_here(Path(folder), prompts=prompts, cycles=cycles)
    print(json.dumps(asdict(measured)))  # noqa: T201 - read by the process above


if __name__ == "__main__":
    main()
