"""The tables of the contest, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.table import Table as RichTable

from harness.engine_plugin.faults import FAULTS
from tests.benchmarks.contest import OTHERS, OURS, Outcome, Score
from tests.benchmarks.tally import standings, tally


@dataclass(frozen=True, kw_only=True)
class Table:
    """Plain cells under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """How the comparators fared on some of the recordings, and what each fault among them met.

    ``settings`` are the same recordings again, taken apart by engine setting.
    """

    title: str
    comparators: Table
    remarks: tuple[str, ...]
    faults: Table
    settings: tuple[Chapter, ...] = ()


def chapters(scores: Iterable[Score]) -> list[Chapter]:
    """Tell of every precision that engines compute in, and of every engine setting within."""
    ordered = sorted(scores, key=lambda each: (each.engine, each.name))
    return [
        replace(
            _chapter(f"{precision}, all settings", of_precision),
            settings=tuple(
                _chapter(f"{engine} ({_setting(of_engine)})", of_engine)
                for engine, of_engine in _grouped(of_precision, lambda each: each.engine)
            ),
        )
        for precision, of_precision in _grouped(ordered, lambda each: each.engine.partition("-")[0])
    ]


def _grouped(scores: Iterable[Score], key: Callable[[Score], str]) -> Iterator[tuple[str, list[Score]]]:
    return ((name, list(group)) for name, group in groupby(scores, key))


def _chapter(title: str, scores: Sequence[Score]) -> Chapter:
    tallies = {who: tally(scores, who) for who in (OURS, *OTHERS)}
    rows = tuple(
        (
            who,
            str(each.false_alarms),
            str(each.detections),
            str(each.inconclusive),
            "-" if each.tokens_needed is None else f"{each.tokens_needed:,.0f}",
        )
        for who, each in tallies.items()
    )
    faulty = [each for each in scores if each.fault is not None]
    return Chapter(
        title=title,
        comparators=Table(
            header=("comparator", "false alarms", "detections", "inconclusive", "tokens needed"), rows=rows
        ),
        remarks=(*standings(tallies), *_of_causes(faulty)),
        faults=Table(
            header=("fault", "its cause", "our verdict", "cause named", "seen as well by"),
            rows=tuple(map(_fault_row, faulty)),
        ),
    )


def _setting(scores: Sequence[Score]) -> str:
    """What all recordings of an engine setting have in common."""
    common = [arg for arg in scores[0].arm_args if all(arg in each.arm_args for each in scores)]
    at_a_time = ", ".join(str(each) for each in sorted({each.concurrency for each in scores}))
    return "; ".join(filter(None, (f"{at_a_time} at a time", " ".join(common))))


def _of_causes(faulty: Sequence[Score]) -> Iterator[str]:
    detected = [each for each in faulty if each.rulings[OURS].outcome is Outcome.ALARM]
    if detected:
        right = sum(each.result.cause == _expected_cause(each) for each in detected)
        yield f"{OURS} names the right cause of {right} of the {len(detected)} faults it detects."


def _fault_row(score: Score) -> tuple[str, ...]:
    verdict = score.result.verdict
    seen_by = [who for who in OTHERS if score.rulings[who].outcome is Outcome.ALARM]
    return (
        score.fault or "",
        _expected_cause(score),
        verdict.value if verdict else f"none: {score.result.error}",
        score.result.cause.value if score.result.cause else "-",
        ", ".join(seen_by) or "-",
    )


def _expected_cause(score: Score) -> str:
    fault = FAULTS.get(score.fault or "")
    return fault.cause if fault else "-"


def for_terminal(table: Table) -> RichTable:
    """Lay a table out for a terminal."""
    laid_out = RichTable(*table.header)
    for row in table.rows:
        laid_out.add_row(*row)
    return laid_out


def as_markdown(chapters: Sequence[Chapter]) -> str:
    """Return the chapters as GitHub-flavoured Markdown, their engine settings folded away."""
    return "\n".join(line for chapter in chapters for line in _markdown_of(chapter)).strip()


def _markdown_of(chapter: Chapter) -> Iterator[str]:
    yield from (f"### {_escaped(chapter.title)}", "")
    yield from _results(chapter)
    for setting in chapter.settings:
        yield from (f"<details><summary>{_escaped(setting.title)}</summary>", "")
        yield from _results(setting)
        if setting.faults.rows:
            yield from (*_markdown_table(setting.faults), "")
        yield from ("</details>", "")


def _results(chapter: Chapter) -> Iterator[str]:
    yield from (*_markdown_table(chapter.comparators), "")
    yield from (f"* {_escaped(remark)}" for remark in chapter.remarks)
    yield ""


def _markdown_table(table: Table) -> Iterator[str]:
    for row in (table.header, ("---",) * len(table.header), *table.rows):
        yield "| " + " | ".join(_escaped(cell) for cell in row) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_").replace("<", "&lt;").replace("\n", " ")
