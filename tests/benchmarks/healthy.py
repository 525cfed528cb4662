"""``python -m tests.benchmarks.healthy --endpoint URL``: how often is a healthy engine blamed?

The default scenarios, shorter, each a run of its own with the whole error rate to spend, on an ordinary
server that somebody else started.  They keep their concurrency: what makes an engine's noise is who shares
a batch.  Every run's verdict is added to a file, so that an interrupted count goes on where it stopped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from cyclopts import App
from ruamel.yaml import YAML

from harness.history.layout import LATEST_LINK
from harness.report.writer import VERDICT_FILE
from tests.benchmarks.planted import DTYPES
from tests.benchmarks.tally import Rate
from tests.marked_part import write_part

KEPT = Path("docs/healthy.json")
PART = "healthy"
DEFAULT = ("first_look", "prefix_cache_level1", "prefix_cache_level2")
SCENARIOS = Path(__file__).parents[2] / "scenarios"
TOKENS, CYCLES = 4, 1
FALSE_ALARMS = ("corrupt", "degraded")

Counts = Counter[tuple[str, str, str]]
"""How many cells of a number format and a scenario ended with a verdict."""

app = App(name="healthy", help_format="plaintext")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How one cell ended."""

    scenario: str
    verdict: str
    why: str


class _Row(TypedDict):
    dtype: str
    scenario: str
    verdict: str
    cells: int


@app.default
def count(
    *,
    endpoint: str | None = None,
    dtype: str = DTYPES[0],
    cells: int = 100,
    out: Path = Path("reports/healthy"),
    kept: Path = KEPT,
    into: Path | None = None,
) -> None:
    """Run cells until there are enough of the number format, then print the table.

    Args:
        endpoint: A healthy server; without one only the table is printed.
        dtype: What it computes in.
        cells: How many there are to be, those in the file included.
        out: Holds the run directories.
        kept: A JSON file of counts.
        into: A Markdown file whose part called "healthy" is rewritten with the table.
    """
    with TemporaryDirectory() as folder:
        scenarios = cycle(list(shortened(Path(folder)))) if endpoint else iter(())
        for scenario in scenarios:
            counts = read(kept)
            if sum(number for (of, _, _), number in counts.items() if of == dtype) >= cells:
                break
            seen = _one(scenario, endpoint=str(endpoint), out=out / dtype)
            # Another command may have added cells meanwhile.
            write(kept, read(kept) + Counter({(dtype, seen.scenario, seen.verdict): 1}))
            _say(f"{dtype}: {seen.scenario}: {seen.verdict}  {seen.why}")
    told = "\n".join(table(read(kept)))
    _say(told)
    if into is not None:
        write_part(into, PART, told)


def shortened(folder: Path) -> Iterator[Path]:
    """Write the default scenarios with few tokens and one cycle to ``folder``; yield their files."""
    yaml = YAML()
    (folder / "corpora").symlink_to(SCENARIOS / "corpora")
    for name in DEFAULT:
        scenario = yaml.load(SCENARIOS / f"{name}.yaml")
        scenario["sampling"]["max_tokens"] = TOKENS
        for step in scenario["script"]:
            if "repeat" in step:
                step["repeat"] = CYCLES
        file = folder / f"{name}.yaml"
        yaml.dump(scenario, file)
        yield file


def _one(scenario: Path, *, endpoint: str, out: Path) -> Seen:
    words = ("-m", "sleepwake", "run", str(scenario), "--endpoint", endpoint, "--out", str(out))
    ended = subprocess.run([sys.executable, *words], check=False, capture_output=True, text=True)
    if ended.returncode not in {0, 1, 3}:
        raise SystemExit(f"{scenario.stem}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    verdict = json.loads((out / LATEST_LINK / VERDICT_FILE).read_text(encoding="utf-8"))
    return outcome(verdict)


def outcome(verdict: Mapping[str, object]) -> Seen:
    """What ``verdict.json`` says of a run of one cell."""
    cells = verdict["cells"]
    assert isinstance(cells, list)
    (cell,) = cells
    why = "" if cell["verdict"] == "clean" else str(cell["reason"])
    return Seen(scenario=cell["scenario"], verdict=cell["verdict"], why=why)


def read(kept: Path) -> Counts:
    """The counts in the file; none where there is no file."""
    if not kept.exists():
        return Counter()
    rows: list[_Row] = json.loads(kept.read_text(encoding="utf-8"))
    return Counter({(row["dtype"], row["scenario"], row["verdict"]): row["cells"] for row in rows})


def write(kept: Path, counts: Counts) -> None:
    """Write the counts, a line each, in an order that does not change."""
    rows = [
        _Row(dtype=dtype, scenario=scenario, verdict=verdict, cells=number)
        for (dtype, scenario, verdict), number in sorted(counts.items())
    ]
    temporary = kept.with_suffix(".tmp")
    temporary.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    temporary.replace(kept)


def table(counts: Counts) -> Iterator[str]:
    """The Markdown table: a number format and a scenario a row."""
    yield f"Written by `python -m tests.benchmarks.healthy --into docs/comparison.md` from `{KEPT}`."
    yield ""
    yield "| dtype | scenario | cells | clean | inconclusive | corrupt or degraded |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for dtype in DTYPES:
        ofs = sorted({scenario for of, scenario, _ in counts if of == dtype})
        for scenario in ofs:
            yield _row(dtype, scenario, _verdicts(counts, dtype, scenario))
        if ofs:
            yield _row(dtype, "all", _verdicts(counts, dtype))


def _verdicts(counts: Counts, dtype: str, scenario: str | None = None) -> Counter[str]:
    ended: Counter[str] = Counter()
    for (of, name, verdict), number in counts.items():
        if of == dtype and scenario in {None, name}:
            ended[verdict] += number
    return ended


def _row(dtype: str, scenario: str, ended: Counter[str]) -> str:
    alarms = Rate(count=sum(ended[each] for each in FALSE_ALARMS), total=ended.total())
    return (
        f"| {dtype} | {scenario} | {ended.total()} | {ended['clean']} | {ended['inconclusive']} | {alarms} |"
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the benchmark's output


if __name__ == "__main__":
    app()
