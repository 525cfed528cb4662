"""``python -m tests.benchmarks.power score DIR``: our comparator and others on the same recordings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App
from rich.console import Console
from rich.progress import track

from harness.errors import HistoryError, SleepwakeError, UsageError
from harness.history.layout import CELLS_FOLDER, HISTORY_FILE
from tests.benchmarks.contest import Score, score_file
from tests.benchmarks.tables import Chapter, as_markdown, chapters, for_terminal
from tests.marked_part import write_part

LEGEND = """\
False alarms: of the healthy engines that a comparator ruled on; detections: of all faulty ones; both with the
exact 95% interval. Inconclusive counts as neither. Tokens needed: the median, over the faults it detects, of
the fewest tokens after the transition at which it still alarms; ours needs null passes before it as well."""

PART = "power"

app = App(name="power", help_format="plaintext")


@app.command
def score(directory: Path, *, into: Path | None = None) -> None:
    """Score every recording under a folder and print the tables.

    Args:
        directory: Holds <engine>/cells/<name>/history.jsonl.
        into: A Markdown file whose part called power is rewritten with the tables.
    """
    told = chapters(score_all(directory))
    show(told, Console(highlight=False))
    if into is not None:
        write_tables(into, told, command=f"python -m tests.benchmarks.power score {directory}")


def score_all(directory: Path) -> list[Score]:
    """Score every recording under ``directory``.

    Raises:
        HistoryError: there is none, or one cannot be read.
    """
    paths = sorted(directory.glob(f"*/{CELLS_FOLDER}/*/{HISTORY_FILE}"))
    if not paths:
        raise HistoryError("no recordings here", path=directory, remedy="record some: make power")
    return [score_file(path) for path in track(paths, description="scoring", console=Console(stderr=True))]


def show(told: Sequence[Chapter], console: Console) -> None:
    """Print the tables; Markdown where the output is not a terminal."""
    if not console.is_terminal:
        console.print(f"{as_markdown(told)}\n\n{LEGEND}", markup=False, soft_wrap=True)
        return
    for chapter in (each for whole in told for each in (whole, *whole.settings)):
        console.rule(chapter.title)
        console.print(for_terminal(chapter.comparators))
        for remark in chapter.remarks:
            console.print(f"* {remark}", markup=False)
        if chapter.faults.rows and not chapter.settings:
            console.print(for_terminal(chapter.faults))
    console.print(LEGEND, markup=False)


def write_tables(path: Path, told: Sequence[Chapter], *, command: str) -> None:
    """Rewrite the marked part of ``path``.

    Raises:
        UsageError: the file has no such part.
    """
    content = f"Written by `{command} --into {path}`.\n\n{LEGEND}\n\n{as_markdown(told)}"
    try:
        write_part(path, PART, content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}", remedy="name a file that has the two marks") from error


def main() -> int:
    """Run the command; a mistake is told in a sentence."""
    try:
        app()
    except SleepwakeError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is where the user reads it
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
