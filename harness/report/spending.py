"""Where the time of a run went, as a sentence, as a table and as bars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.history.time_parts import PARTS, Part, TimeSpent
from harness.report.model import Report
from harness.report.text import percent, seconds

_NAMES: dict[Part, str] = {
    "null_transitions": "null transitions",
    "harness": "sleepwake itself",
}
_SHORT = 0.005
"""Share of the whole below which the sentence leaves a part to the table."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """One part of the time."""

    name: str
    milliseconds: int
    of_whole: float

    @property
    def words(self) -> str:
        """The time as people read it."""
        return seconds(self.milliseconds / 1000)


@dataclass(frozen=True, kw_only=True)
class Spending:
    """The time of a cell, or of a whole run, by part."""

    title: str
    shares: tuple[Share, ...]
    """Every part that took time, in the order they happen."""
    whole: int

    @property
    def words(self) -> str:
        """The whole as people read it."""
        return seconds(self.whole / 1000)

    def share(self, name: str) -> Share | None:
        """The part with that name; None where it took no time."""
        return next((share for share in self.shares if share.name == name), None)


def spending_of(title: str, spent: TimeSpent) -> Spending:
    """Break ``spent`` up into what took time."""
    return Spending(
        title=title,
        shares=tuple(
            Share(
                name=_NAMES.get(part, part),
                milliseconds=spent.of(part),
                of_whole=spent.of(part) / spent.whole,
            )
            for part in PARTS
            if spent.of(part)
        ),
        whole=spent.whole,
    )


def spending(report: Report) -> list[Spending]:
    """The run's time, then that of each of its cells; empty where none was written down."""
    whole = spending_of("whole run", report.result.milliseconds)
    if not whole.whole:
        return []
    cells = [spending_of(cell.title, cell.result.milliseconds) for cell in report.cells]
    return [whole, *(cell for cell in cells if cell.whole)]


def spending_sentence(report: Report) -> str:
    """One line: the whole, then the parts that weigh, the heaviest first; empty without any."""
    told = spending(report)
    if not told:
        return ""
    heavy = sorted(told[0].shares, key=lambda share: share.milliseconds, reverse=True)
    parts = (f"{share.name} {percent(share.of_whole)}" for share in heavy if share.of_whole >= _SHORT)
    return f"{told[0].words}: {', '.join(parts)}"


def spending_md(report: Report) -> Iterator[str]:
    """Yield the whole run's parts as a Markdown table; nothing without any."""
    for whole in spending(report)[:1]:
        yield ""
        yield f"| time | {whole.words} | |"
        yield "|---|---:|---:|"
        for share in whole.shares:
            yield f"| {share.name} | {share.words} | {percent(share.of_whole)} |"
