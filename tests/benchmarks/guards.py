"""What guards say of real engines in process: ``python -m tests.benchmarks.guards OUT`` prints the table.

Each engine is a program of its own (:mod:`tests.public.guarded_engine`), one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.models.model import provide_model
from harness.models.variants import provide_variants, variants_of

ROOT = Path(__file__).parents[2]

EVERY_CYCLE = ("level1", "reloaded", "transferred", "partial", "reloaded", "bare", "adapter")
WORDS = {
    "level1": "sleep at level 1",
    "reloaded": "sleep at level 2, weights loaded again",
    "bare": "sleep at level 2, weights not loaded again",
    "transferred": "weight transfer of the weights that it has",
    "partial": "the same, and one tensor does not arrive",
    "adapter": "an adapter is exchanged at its path, as announced",
    "adapter-not-loaded": "an adapter is exchanged at its path, and not loaded; a reference has it",
    "adapter-loaded": "it is loaded, after all, in place of the old one",
}


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """One engine, and what is done to it."""

    kind: str = "LLM"
    multiprocessing: bool = True
    dtype: str = "float32"
    fault: str = ""
    cycles: Sequence[str] = EVERY_CYCLE

    @property
    def name(self) -> str:
        """For a folder."""
        process = "own-process" if self.multiprocessing else "same-process"
        return "-".join(filter(None, (self.kind, process, self.dtype, self.fault)))


EVERY_ARRIVAL = ("level1", "reloaded", "transferred", "partial", "reloaded", "bare")

ENGINES = (
    Guarded(),
    Guarded(multiprocessing=False, fault="keep-prefix-cache", cycles=("level1",)),
    Guarded(kind="AsyncLLM", cycles=EVERY_ARRIVAL),
    Guarded(multiprocessing=False, dtype="bfloat16", cycles=EVERY_ARRIVAL),
    Guarded(multiprocessing=False, cycles=("level1", "reloaded", "bare")),
    Guarded(kind="AsyncLLM", multiprocessing=False, cycles=("level1", "reloaded", "bare")),
    Guarded(cycles=("adapter-by-reference",)),
    Guarded(kind="server", cycles=("level1", "reloaded", "bare")),
    Guarded(kind="actor", multiprocessing=False, cycles=("level1", "reloaded", "bare")),
)
KINDS = {"server": "OpenAI endpoint", "actor": "`LLM` that is a Ray actor"}
"""What kinds are called that are no class of vLLM's."""


def environment(guarded: Guarded) -> dict[str, str]:
    """What the engine needs on a CPU."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "harness" / "public"))),
        "SLEEPWAKE_CPU_SLEEP": "1",
        "SLEEPWAKE_WEIGHT_TRANSFER": "1",
        "SLEEPWAKE_FAULT": guarded.fault,
        "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(guarded.multiprocessing)),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "HF_HUB_OFFLINE": "1",
    }


def run(guarded: Guarded, out: Path) -> list[dict[str, Any]]:
    """What the guard said: of the baseline, then of each check; ``out`` gets the log and the recordings.

    Raises:
        subprocess.CalledProcessError: the program failed; its log says why.
    """
    model = provide_model(dtype="float32")
    named: tuple[str, ...] = ()
    if {"adapter", "adapter-by-reference"} & set(guarded.cycles):
        provide_variants(model, adapters=True, other_weights=False)
        named = ("--adapters", *map(str, variants_of(model, exchanged=out).adapters.values()))
    out.mkdir(parents=True, exist_ok=True)
    words = (guarded.kind, model.location, str(out), *guarded.cycles, "--dtype", guarded.dtype, *named)
    began = time.monotonic()
    with (out / "engine.log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.public.guarded_engine", *words],
            cwd=ROOT,
            env=environment(guarded),
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    told: list[dict[str, Any]] = json.loads((out / "told.json").read_text())
    told[0]["program_seconds"] = time.monotonic() - began
    return told


def rows(guarded: Guarded, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line of the table for each check."""
    planted = f", `{guarded.fault}` planted" if guarded.fault else ""
    kind = KINDS.get(guarded.kind, f"`{guarded.kind}`")
    engine = f"{kind} | {told[0]['computes_in']} | {guarded.dtype}"
    for check in told[1:]:
        yield (
            f"| {engine} | {WORDS[check['cycle']]}{planted} "
            f"| {check['verdict']} | {check['cause'] or ''} | {check['tokens']} | {check['seconds']:.1f} |"
        )


def main(out: Path, only: Sequence[int]) -> None:
    """Run the engines and print what came of them."""
    sys.stdout.write("| engine | computes in | dtype | done to it | verdict | cause | tokens | seconds |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|\n")
    for number, guarded in enumerate(ENGINES):
        if number in only or not only:
            for row in rows(guarded, run(guarded, out / f"{number}-{guarded.name}")):
                sys.stdout.write(f"{row}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", type=int, nargs="*", default=(), help="numbers of engines, from 0")
    parsed = parser.parse_args()
    main(parsed.out.absolute(), parsed.only)
