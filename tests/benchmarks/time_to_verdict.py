"""``python -m tests.benchmarks.time_to_verdict``: how long until the last verdict, and against what.

On one engine, one model and the same prompts: sleepwake, the script everybody writes, vLLM's own test,
and the physical limit.  Every step is a process of its own and leaves one file; what is there already is
not measured again, so that an interrupted benchmark goes on where it stopped.  Nothing is extrapolated: a
step that was measured on some of the cells only says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tests.benchmarks.steps import STEPS, Step, Wanted, steps_of
from tests.benchmarks.verdict_times import table
from tests.marked_part import write_part

OUT = Path("reports/time-to-verdict")
PART = "time to verdict"

app = App(name="time_to_verdict", help_format="plaintext")


@app.default
def benchmark(
    *,
    only: tuple[str, ...] = (),
    expression: Annotated[str | None, Parameter(name=["-k", "--expression"])] = None,
    out: Path = OUT,
    again: bool = False,
    into: Path | None = None,
) -> None:
    """Measure what is not measured yet, then print the table.

    Args:
        only: A step: ours, limit, naive, vllm, bug, overhead. Can be given several times; "table": none.
        expression: Only the default cells whose name matches, for all steps alike.
        out: Holds one JSON file a step.
        again: Measure again what is there already.
        into: A Markdown file whose part called "time to verdict" is rewritten with the table.
    """
    wanted = Wanted(out=out, expression=expression)
    out.mkdir(parents=True, exist_ok=True)
    for step in steps_of(wanted):
        if (only and step.kind not in only) or (step.file.exists() and not again):
            continue
        _say(f"{step.name} ...")
        _measure_apart(step, wanted)
    told = table(out)
    _say(told)
    if into is not None:
        command = f"python -m tests.benchmarks.time_to_verdict --into {into}"
        write_part(into, PART, f"Written by `{command}`.\n\n{told}")


def _measure_apart(step: Step, wanted: Wanted) -> None:
    """In a process of its own, so that neither memory nor imports of another step count."""
    words = [sys.executable, "-m", "tests.benchmarks.time_to_verdict", "one", step.name, "--out", wanted.out]
    expression = ["-k", wanted.expression] if wanted.expression else []
    subprocess.run([*map(str, words), *expression], check=True)


@app.command(show=False)
def one(
    name: str,
    /,
    *,
    expression: Annotated[str | None, Parameter(name=["-k", "--expression"])] = None,
    out: Path = OUT,
) -> None:
    """Measure one step in this process."""
    step = next(step for step in steps_of(Wanted(out=out, expression=expression)) if step.name == name)
    measure: Callable[[Step, Wanted], Mapping[str, object]] = STEPS[step.kind]
    measured = measure(step, Wanted(out=out, expression=expression))
    temporary = step.file.with_suffix(".tmp")
    temporary.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    temporary.replace(step.file)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the benchmark's output


if __name__ == "__main__":
    app()
