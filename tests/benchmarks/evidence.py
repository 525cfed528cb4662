"""``python -m tests.benchmarks.evidence DIR``: which evidence shows which faults, and what it costs.

The default evidence of a scenario is chosen by this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cyclopts import App
from rich.console import Console

from harness.check import judge
from harness.check.result import CellResult
from harness.check.wording import manner
from harness.history.layout import CELLS_FOLDER
from harness.history.passes import Role
from harness.history.recording import Recording, load_recording
from harness.report.tables import Row, Table, show_table

app = App(name="evidence", help_format="plaintext")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One recording of a fault: which evidence shows the damage, and how long each took."""

    fault: str
    by: frozenset[str]
    seconds: Mapping[str, float]


@app.default
def show(directory: Path) -> None:
    """Print the table.

    Args:
        directory: Holds cells/<name>/history.jsonl.
    """
    paths = sorted((directory / CELLS_FOLDER).iterdir())
    seen = [see(recording) for recording in map(load_recording, paths) if recording.cell.fault]
    show_table(table(seen), Console(highlight=False))


def see(recording: Recording) -> Seen:
    """Judge one recording, and find out which passes show the damage."""
    return Seen(
        fault=recording.cell.fault or "",
        by=frozenset(_shown_by(judge(recording), recording)),
        seconds=_seconds(recording),
    )


def table(seen: Sequence[Seen]) -> Table:
    """One row a kind of evidence, the one that finds most per second first."""
    kinds = dict.fromkeys(kind for each in seen for kind in each.seconds)
    rows = []
    for kind in kinds:
        finds = [each.fault for each in seen if kind in each.by]
        alone = [each.fault for each in seen if each.by == {kind}]
        cost = median(each.seconds[kind] for each in seen if kind in each.seconds)
        row = Row(fields=(kind, f"{cost:.1f}", str(len(finds)), f"{len(finds) / cost:.2f}", ", ".join(alone)))
        rows.append((len(finds) / cost, row))
    rows.sort(key=lambda rated: -rated[0])
    return Table(
        title=f"{len(seen)} faults",
        headings=("evidence", "seconds per pass", "faults it shows", "per second", "shown by it alone"),
        rows=tuple(row for _, row in rows),
    )


def _shown_by(result: CellResult, recording: Recording) -> Iterator[str]:
    starts = {each.number: each.start for each in recording.passes}
    for finding in result.findings:
        if finding.pass_number is not None:
            yield manner(starts[finding.pass_number])


def _seconds(recording: Recording) -> dict[str, float]:
    return {
        manner(each.start): max(answer.t for answer in each.answers.values()) - each.start.t
        for each in recording.passes_of(Role.AFTER)
        if each.answers
    }


if __name__ == "__main__":
    app()
