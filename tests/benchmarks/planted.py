"""``python -m tests.benchmarks.planted``: every shipped fault, planted where a user would meet it.

That is the whole default run, whose cells share servers, and not the scenario made for the fault.  A run ends
with the first cell that is corrupt or degraded.  Every fault is a command of its own; what came out is kept
in a file, so that an interrupted table goes on where it stopped and one machine can add to another's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cyclopts import App

from harness.engine_plugin.faults import FAULTS, Fault
from harness.explore.selftest.run import flags_of
from harness.history.layout import LATEST_LINK
from harness.report.text import count
from harness.report.writer import VERDICT_FILE
from tests.marked_part import write_part

KEPT = Path("docs/planted.json")
OUT = Path("reports/planted")
PART = "planted"
DTYPES = ("float32", "bfloat16")
HEALTHY = "nothing"

app = App(name="planted", help_format="plaintext")


@dataclass(frozen=True, kw_only=True)
class Planted:
    """How one default run came out."""

    fault: str
    dtype: str
    vllm: str
    verdict: str
    cause: str | None
    cell: str
    """The cell that said so, or the number of cells."""
    seconds: int

    @property
    def told(self) -> str:
        """What stands in the table."""
        cause = f", {self.cause}" if self.cause else ""
        return f"{self.verdict}{cause} ({self.cell}, {self.seconds} s)"


@app.default
def plant(
    *names: str,
    dtype: tuple[str, ...] = DTYPES,
    out: Path = OUT,
    kept: Path = KEPT,
    into: Path | None = None,
    only_table: bool = False,
) -> None:
    """Plant what is not in the file yet, then print the table.

    Args:
        names: Faults, or "nothing" for a healthy engine; all by default.
        dtype: What the engine computes in. Can be given several times.
        out: Holds the run directories.
        kept: A JSON file, one row for each run that came to its end.
        into: A Markdown file whose part called "planted" is rewritten with the table.
        only_table: Plant nothing.
    """
    rows = read(kept)
    there = {(row.fault, row.dtype) for row in rows}
    wanted = [(name, each) for each in dtype for name in (names or (*_plantable(), HEALTHY))]
    for name, each in [] if only_table else wanted:
        if (name, each) in there:
            continue
        _say(f"{each}: {name} ...")
        row = _one(name, dtype=each, out=out / each / name)
        _say(f"{each}: {name}: {row.told}")
        # Read again: another command may have added rows meanwhile.
        write(kept, [*read(kept), row])
    told = "\n".join(table(read(kept)))
    _say(told)
    if into is not None:
        write_part(into, PART, told)


def _plantable() -> Iterator[str]:
    """What has something to break in a default scenario on the default model."""
    return (fault.name for fault in FAULTS.values() if not (fault.adapters or fault.pictures))


def command(name: str, *, dtype: str, out: Path) -> list[str]:
    """The command line of one run; a healthy engine answers every cell of it."""
    flags = (f"--dtype={dtype}", *(flags_of(FAULTS[name].needs) if name != HEALTHY else ()))
    planted = ("--fault", name, "--exit-first") if name != HEALTHY else ()
    words = ("-m", "sleepwake", "run", "-k", "prefix-cache-on", "--runtime", "process", "--out", str(out))
    return [sys.executable, *words, *planted, *(f"--vllm-arg={flag}" for flag in flags)]


def _one(name: str, *, dtype: str, out: Path) -> Planted:
    began = time.monotonic()
    ended = subprocess.run(command(name, dtype=dtype, out=out), check=False, capture_output=True, text=True)
    seconds = round(time.monotonic() - began)
    directory = out / LATEST_LINK
    if not (directory / VERDICT_FILE).exists() or ended.returncode not in {0, 1, 3}:
        raise SystemExit(f"{name}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return outcome(
        json.loads((directory / VERDICT_FILE).read_text(encoding="utf-8")),
        fault=name,
        dtype=dtype,
        seconds=seconds,
    )


def outcome(verdict: Mapping[str, object], *, fault: str, dtype: str, seconds: int) -> Planted:
    """What ``verdict.json`` says of a run, by the cell that decided it."""
    cells = verdict["cells"]
    assert isinstance(cells, list)
    said = str(verdict["verdict"])
    deciding = next((cell for cell in cells if cell["verdict"] == said), cells[0])
    return Planted(
        fault=fault,
        dtype=dtype,
        vllm=str(deciding["vllm_version"]).partition("+")[0],
        verdict=said,
        cause=deciding["cause"],
        cell=count(len(cells), "cell") if said == "clean" else deciding["scenario"],
        seconds=seconds,
    )


def read(kept: Path) -> list[Planted]:
    """The rows of the file; none where there is no file."""
    if not kept.exists():
        return []
    return [Planted(**row) for row in json.loads(kept.read_text(encoding="utf-8"))]


def write(kept: Path, rows: Iterable[Planted]) -> None:
    """Write the rows, ordered so that a run more is a line more."""
    ordered = sorted(rows, key=lambda row: (row.dtype, row.fault))
    lines = ",\n".join(json.dumps(asdict(row)) for row in ordered)
    temporary = kept.with_suffix(".tmp")
    temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    temporary.replace(kept)


def table(rows: Sequence[Planted]) -> Iterator[str]:
    """The Markdown table: a fault a row, a number format a column."""
    said = {(row.fault, row.dtype): row for row in rows}
    dtypes = [dtype for dtype in DTYPES if any(row.dtype == dtype for row in rows)]
    yield f"Written by `python -m tests.benchmarks.planted --into docs/comparison.md` from `{KEPT}`."
    yield ""
    yield f"| planted | its cause | {' | '.join(dtypes)} |"
    yield f"| --- | --- |{' --- |' * len(dtypes)}"
    for name in (HEALTHY, *_plantable()):
        cause = FAULTS[name].cause if name in FAULTS else "-"
        cells = (said[name, dtype].told if (name, dtype) in said else "not run" for dtype in dtypes)
        yield f"| {name} | {cause} | {' | '.join(cells)} |"
    yield ""
    yield from (_counted(dtype, [row for row in rows if row.dtype == dtype]) for dtype in dtypes)
    refused = [fault for fault in FAULTS.values() if fault.adapters or fault.pictures]
    yield f"* Refused, since nothing in a default scenario is theirs to break: {_names(refused)}."


def _counted(dtype: str, rows: Sequence[Planted]) -> str:
    planted = [row for row in rows if row.fault != HEALTHY]
    noticed = [row for row in planted if row.verdict in {"corrupt", "degraded"}]
    named = [row for row in noticed if row.cause == FAULTS[row.fault].cause]
    return f"* {dtype}: {len(noticed)} of {len(planted)} noticed, {len(named)} attributed to the right cause."


def _names(faults: Sequence[Fault]) -> str:
    return ", ".join(fault.name for fault in faults)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the benchmark's output


if __name__ == "__main__":
    app()
