"""``make torture``: tries what must never happen, part by part, and writes what came of it to a table.

``python -m tests.torture PART...`` runs some of the parts, ``--long`` for hours.  Each part has a process of
its own.  Ends with 1 if anything was not as it must be.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cyclopts import App

from harness.errors import UsageError
from tests.marked_part import write_part
from tests.torture.part import Budget, Outcome, Part
from tests.torture.parts import PARTS

PAGE_PART = "torture"
app = App(name="torture", help_format="plaintext")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part, and what came of it."""

    part: Part
    outcome: Outcome
    seconds: float


@app.default
def torture(
    *names: str,
    long: bool = False,
    trials: int | None = None,
    seed: int = 0,
    keep: Path = Path("reports/torture"),
    into: Path | None = None,
) -> int:
    """Run the parts one after the other, and print the table.

    Args:
        names: Parts; all by default.
        long: Hours instead of minutes.
        trials: Of each part, instead of as many as it is given.
        seed: Of all that is drawn.
        keep: A folder for what is found.
        into: A Markdown file whose part called "torture" is rewritten with the table.
    """
    rows: list[Row] = []
    for part in _chosen(names):
        rows.append(
            row := _tried(part, long=long, trials=trials, seed=seed, keep=keep / part.name.replace(" ", "-"))
        )
        _say(line(row))
        for problem in row.outcome.bad:
            _say(f"  {problem}")
    told = "\n".join(table(rows))
    if into is not None:
        asked = [
            *map(repr, names),
            *(["--long"] if long else []),
            *([f"--trials {trials}"] if trials else []),
        ]
        command = " ".join(("python -m tests.torture", *asked, f"--into {into}"))
        write_part(into, PAGE_PART, f"Written by `{command}`.\n\n{told}")
    return 1 if any(row.outcome.bad for row in rows) else 0


def _chosen(names: Sequence[str]) -> Iterable[Part]:
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known:
            raise UsageError(f"no part is called {name}", remedy=f"choose from {', '.join(known)}")
    return [known[name] for name in names] if names else PARTS


def _tried(part: Part, *, long: bool, trials: int | None, seed: int, keep: Path) -> Row:
    """Run a part in a process of its own: what it does to its memory or its folder is no other's business."""
    began = time.monotonic()
    with (
        TemporaryDirectory(prefix="sleepwake-torture-") as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes,
    ):
        budget = Budget(
            seconds=part.seconds[long],
            trials=trials or part.trials[long],
            seed=seed,
            folder=Path(folder),
            keep=keep,
        )
        try:
            outcome = processes.submit(part.run, budget).result()
        except BrokenProcessPool:
            outcome = Outcome(tried=1, bad=("the part itself was killed",))
        except Exception:  # noqa: BLE001 - a part that crashes is a row that says so; the others still run
            outcome = Outcome(tried=1, bad=(traceback.format_exc(),))
    return Row(part=part, outcome=outcome, seconds=time.monotonic() - began)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The Markdown table: a part a row."""
    yield "| part | what must hold | tried | bad | seconds | besides |"
    yield "|---|---|---:|---:|---:|---|"
    yield from map(line, rows)


def line(row: Row) -> str:
    """One row of the table."""
    outcome = row.outcome
    told = (
        row.part.name,
        row.part.about,
        outcome.tried,
        len(outcome.bad),
        f"{row.seconds:.0f}",
        outcome.told,
    )
    return f"| {' | '.join(map(str, told))} |"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the table as it grows


if __name__ == "__main__":
    sys.exit(app())
