"""The table of ``time_to_verdict``, from the files its steps left; nothing that was not measured is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.report.text import count, percent, seconds

Measured = Mapping[str, Any]
"""One step's file: numbers by name (:mod:`tests.benchmarks.steps`)."""


def table(out: Path) -> str:
    """What was measured so far, as Markdown; steps that are missing are named."""
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))}
    ours = files.get("ours")
    if ours is None:
        return "Not measured yet: ours."
    lines = [
        "| procedure | time to verdict | against sleepwake | answers | what it was |",
        "|---|---:|---:|---:|---|",
        f"| sleepwake | {seconds(ours['seconds'])} | 1 | {ours['answers']} | {_cells(ours)} |",
        *_limit(ours, files.get("limit")),
        *_naive(ours, {name: each for name, each in files.items() if name.startswith("naive-")}),
        *_vllm(ours, {name: each for name, each in files.items() if name.startswith("vllm-")}),
        "",
        *_remarks(ours, files),
    ]
    return "\n".join(lines)


def limit_seconds(ours: Measured, limit: Measured) -> float:
    """The boots our run made, and its tokens at the highest throughput the engine showed."""
    boots: float = ours["boot_seconds"]
    tokens: float = ours["tokens"] / max(limit["tokens_per_second"].values())
    return boots + tokens


def _cells(ours: Measured) -> str:
    verdicts = list(ours["verdicts"].values())
    told = ", ".join(dict.fromkeys(str(verdict) for verdict in verdicts))
    return f"{count(len(verdicts), 'cell')}: {told}"


def _times(other: float, ours: Measured) -> str:
    return f"{other / ours['seconds']:.2f}x"


def _limit(ours: Measured, limit: Measured | None) -> Iterator[str]:
    if limit is None:
        return
    least = limit_seconds(ours, limit)
    rate = max(limit["tokens_per_second"].values())
    yield (
        f"| physical limit | {seconds(least)} | {_times(least, ours)} | {ours['answers']} | "
        f"the same boots, {ours['tokens']} tokens at {rate:.0f} a second |"
    )


def _naive(ours: Measured, measured: Mapping[str, Measured]) -> Iterator[str]:
    """Measured on some of the cells only, it can only have become longer."""
    if not measured:
        return
    whole = sum(each["whole_seconds"] for each in measured.values())
    asked, changed = (sum(each[name] for each in measured.values()) for name in ("asked", "changed"))
    of = len(ours["verdicts"])
    partly = not set(ours["verdicts"]) <= {each["cell"] for each in measured.values()}
    over = "over " if partly else ""
    cells = f"measured on {len(measured)} of {of} cells" if partly else count(of, "cell")
    yield (
        f"| restart, one prompt at a time, exact | {over}{seconds(whole)} | {over}{_times(whole, ours)} | "
        f"{asked} | {cells}: {changed} answers changed |"
    )


def _vllm(ours: Measured, measured: Mapping[str, Measured]) -> Iterator[str]:
    for name, each in measured.items():
        yield (
            f"| vLLM's own test, {name.removeprefix('vllm-').replace('-', ' ')} | "
            f"{seconds(each['whole_seconds'])} | {_times(each['whole_seconds'], ours)} | {each['asked']} | "
            f"one engine, one prompt, {each['tokens']} tokens: {each['changed']} answers changed |"
        )


def _remarks(ours: Measured, files: Mapping[str, Measured]) -> Iterator[str]:
    if "limit" in files:
        ratio = ours["seconds"] / limit_seconds(ours, files["limit"])
        yield f"* sleepwake takes {ratio:.2f} times the physical limit."
    if bug := files.get("bug"):
        yield (
            f"* The founding bug planted: {bug['cell']} is {bug['verdict']} ({bug['cause']}) "
            f"{bug['seconds_after_ready']:.1f} s after its server was ready."
        )
    yield (
        f"* sleepwake's own process: {ours['cpu_seconds']:.1f} s of processor time, "
        f"{percent(ours['cpu_seconds'] / ours['seconds'])} of the run's wall time; "
        f"at most {ours['peak_mib']:.0f} MiB."
    )
    for cell in files.get("overhead", {}).get("cells", ()):
        running, judging = (
            1000 * cell[name] / cell["answers"] for name in ("cpu_seconds", "judging_cpu_seconds")
        )
        yield (
            f"* With {cell['answers']} answers of a fake engine: {running:.1f} ms of processor time each, "
            f"at most {cell['peak_mib']:.0f} MiB; judging adds {judging:.1f} ms each, at most "
            f"{cell['judging_peak_mib']:.0f} MiB in all."
        )
    missing = [name for name in ("limit", "bug", "overhead") if name not in files]
    missing += [name for name in ("naive", "vllm") if not any(file.startswith(f"{name}-") for file in files)]
    if missing:
        yield f"* Not measured yet: {', '.join(missing)}."
