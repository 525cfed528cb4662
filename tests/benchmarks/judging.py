"""``python -m tests.benchmarks.judging``: how long judging a large history takes, and how much memory.

Each piece of work runs in a fresh process that is pinned to one core.  The time is the CPU's, so
that other work on the machine adds little, and the least of several runs counts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.check import judge
from harness.history.layout import HISTORY_FILE
from harness.history.recording import load_recording

RUNS = 3
MOST_TIMES = 12.0
"""How much longer than ``json.loads`` of every line it may take: both get slower where a machine does.

That is 5 s on a core that parses the lines in 0.42 s.
"""

MOST_MIB = 1024
MIB_IN_KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one process needed."""

    seconds: float
    peak_mib: float


def write_history(folder: Path) -> None:
    """Make the history: in a process of its own, as a child's peak counts what its parent held."""
    from tests.benchmarks import big_history  # what is measured does without it

    big_history.write_history(big_history.simulate_large(), folder)


def judge_history(folder: Path) -> None:
    """Do what ``sleepwake check`` does with a cell before it reports."""
    judge(load_recording(folder))


def parse_lines(folder: Path) -> None:
    """Do the least that anything in Python could do with the same file."""
    with (folder / HISTORY_FILE).open("rb") as lines:
        for line in lines:
            json.loads(line)


WORK: Mapping[str, Callable[[Path], None]] = {
    "write": write_history,
    "judge": judge_history,
    "parse": parse_lines,
}


def measure_here(work: Callable[[Path], None], folder: Path) -> Measurement:
    """Do ``work`` on one core of this process and measure it; the peak is that of the whole process."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = time.process_time()
    work(folder)
    seconds = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measurement(seconds=seconds, peak_mib=peak / MIB_IN_KIB)


def measure(name: str, folder: Path, *, runs: int) -> Measurement:
    """Measure one kind of work in fresh processes; the quickest of them counts."""
    command = [sys.executable, "-m", "tests.benchmarks.judging", name, str(folder)]
    outputs = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(runs)
    ]
    return min((Measurement(**json.loads(output)) for output in outputs), key=lambda each: each.seconds)


def benchmark(console: Console) -> bool:
    """Make the history, measure, and say whether judging it stays within the limits."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        measure("write", folder, runs=1)
        console.print(_size(folder / HISTORY_FILE))
        judging, parsing = (measure(name, folder, runs=RUNS) for name in ("judge", "parse"))
    times = judging.seconds / parsing.seconds
    within = times < MOST_TIMES and judging.peak_mib < MOST_MIB
    console.print(f"json.loads of every line: {parsing.seconds:.2f} s of one core")
    console.print(
        f"loading and judging: {judging.seconds:.2f} s of one core, {times:.1f} times as long; "
        f"peak {judging.peak_mib:.0f} MiB",
        soft_wrap=True,
    )
    console.print(f"limits: {MOST_TIMES:.0f} times, {MOST_MIB} MiB: {'kept' if within else 'EXCEEDED'}")
    return within


def _size(history: Path) -> str:
    with history.open("rb") as lines:
        answers = sum(b'"kind":"answer"' in line for line in lines)
    return f"{answers:,} answers, {history.stat().st_size / 1e6:.0f} MB"


def main() -> int:
    """Run the benchmark, or with a name and a folder one measurement."""
    if len(sys.argv) > 1:
        _, name, folder = sys.argv
        print(json.dumps(vars(measure_here(WORK[name], Path(folder)))))  # noqa: T201 - read by the process above
        return 0
    return 0 if benchmark(Console(highlight=False)) else 1


if __name__ == "__main__":
    sys.exit(main())
