"""A search over releases as a table: what was tried, in order, and what follows."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.text import one_line

_STYLES = {"good": "green", "bad": "bold red", "skip": "magenta"}


def show_bisection(
    trials: Sequence[tuple[str, str, str, str]],
    *,
    conclusion: str,
    reproduce: Sequence[str],
    console: Console,
) -> None:
    """Print a search and how to see its end again; ``trials`` are (version, outcome, reason, run)."""
    console.print()
    if console.is_terminal:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("release", "outcome", "because", "run"):
            table.add_column(heading)
        for version, outcome, reason, run in trials:
            table.add_row(
                version, Text(outcome, style=_STYLES.get(outcome, "")), Text(one_line(reason)), Text(run)
            )
        console.print(table)
    else:
        for trial in trials:
            console.print(Text("  ".join(one_line(part) for part in trial)), soft_wrap=True)
    console.print(Text(conclusion, style="bold"), soft_wrap=True)
    for command in reproduce:
        console.print(Text(f"reproduce: {one_line(command)}"), soft_wrap=True)
