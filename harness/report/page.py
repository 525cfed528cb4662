"""``report.html``: one file that opens offline, needs no script and loads nothing.

Templates escape everything they are given; a content security policy in the page itself forbids requests
and every script but the page's own, which it knows by its checksum, should anything ever get past them.
What that script adds (filter, search, buttons that copy) is not there without it, and nothing is missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from harness.check.evidence import Evidence
from harness.check.result import Cause, Finding, Strength, Witness
from harness.report import text, words
from harness.report.advice import advice
from harness.report.changes import Change, Spread, agreements, changes, shapes, spreads
from harness.report.measures import Measure, measures
from harness.report.model import CellReport, Report, is_known, worst_first
from harness.report.plots import agreement_plot, memory_plots, shape_plots
from harness.report.remarks import Remark, remarks
from harness.report.spending import spending
from harness.report.text import shorten, visible
from harness.report.timeline import Moment, moments
from harness.report.tokens import Choice, Strip, answer_strip, likeliest, token_strip
from harness.report.witness import Parting, Row, facts, parting, where_they_part

_OPEN_CELLS = 4
"""Cells that stand open when the page is opened, the worst first."""
_CHANGES_SHOWN = 60
_STRIPS_SHOWN = 12
_ROWS_SHOWN = 500
_TEXT_SHOWN = 20_000
_LINE_SHOWN = 2_000
_PLOTTED_CELLS = 16
"""Cells with plots, the worst first: each plot weighs some twenty kilobytes."""
_COLUMNS = 4
"""Arms up to which the cells stand in columns, one an arm."""


@dataclass(frozen=True, kw_only=True)
class WitnessView:
    """A witness as the page shows it."""

    witness: Witness
    where: str
    parting: Parting
    rows: list[Row]
    likeliest: list[tuple[str, list[Choice]]]
    """Name of the side, and what it found likely where the two part."""
    strip: Strip
    picture: str | None
    """What the prompt shows, as a ``data:`` URL."""


class Plot(NamedTuple):
    """A title, what to look for, and the pictures."""

    title: str
    hint: str
    pictures: Sequence[Markup]
    either: bool = False
    """Whether the first picture is for wide pages and the second for narrow ones."""


@dataclass(frozen=True, kw_only=True)
class CellView:
    """A cell as the page shows it."""

    report: CellReport
    anchor: str
    is_open: bool
    is_featured: bool
    """Whether the first screen tells its reason and its witness."""
    remarks: list[Remark]
    witness: WitnessView | None
    changes: list[tuple[Change, Strip | None]]
    """Each token by token as well, as far as there is room for that."""
    changes_left_out: int
    spreads: list[Spread]
    moments: list[Moment]
    proofs: list[Finding]
    """The first proof of every checker."""
    memory: list[Measure]
    """Where memory is what is wrong: how much was in use, awake and asleep."""
    plots: list[Plot]
    log: list[str]
    """The end of what the server printed."""


def report_html(report: Report) -> str:
    """Return the page.  Takes about a second for the first plot and a tenth for each further one."""
    order = worst_first(report.cells)
    featured = words.most_telling(order) if order else None
    anchors = {cell.result.cell: f"cell-{number}" for number, cell in enumerate(report.cells, start=1)}
    cells = [
        _cell_view(
            cell,
            anchor=anchors[cell.result.cell],
            is_open=cell.outcome != "clean" and place < _OPEN_CELLS,
            is_featured=cell is featured,
            is_plotted=place < _PLOTTED_CELLS,
        )
        for place, cell in enumerate(order)
    ]
    arms = list(dict.fromkeys(cell.result.arm for cell in report.cells))
    script = _script()
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            outcome=words.run_outcome(report),
            headline=words.headline(report),
            lead=words.lead(report),
            advice=advice(report),
            featured=next((cell for cell in cells if cell.is_featured), None),
            cells=cells,
            anchors=anchors,
            outcomes=list(dict.fromkeys(cell.outcome for cell in order)),
            scenarios=list(dict.fromkeys(cell.result.scenario for cell in report.cells)),
            arms=arms,
            in_columns=len(arms) <= _COLUMNS,
            script=script,
            script_checksum=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            grounds=_grounds(report),
            false_alarms=words.false_alarms(report),
            spending=spending(report),
            settings=list(_settings(report.run.as_json())),
            rows_shown=_ROWS_SHOWN,
        )
    )


@cache
def _script() -> Markup:
    """The page's own script, exactly as it stands between its tags."""
    return Markup((files("harness.report") / "templates" / "report.js").read_text(encoding="utf-8"))  # noqa: S704 - ours


@cache
def page_environment() -> Environment:
    """Templates in which every value is made visible and escaped."""
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_made_visible,
    )
    environment.globals |= {"SYMBOLS": words.SYMBOLS, "is_known": is_known, "words": words, "text": text}
    environment.filters |= {
        "percent": text.percent,
        "seconds": text.seconds,
        "compact": compact,
        "shorten": lambda value: shorten(value, limit=_TEXT_SHOWN),
    }
    return environment


def _made_visible(value: object) -> object:
    """Every value on its way into the page, unless this package itself made markup of it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _cell_view(
    cell: CellReport, *, anchor: str, is_open: bool, is_featured: bool, is_plotted: bool
) -> CellView:
    evidence = Evidence(cell.recording) if cell.recording else None
    changed = changes(evidence) if evidence else []
    return CellView(
        report=cell,
        anchor=anchor,
        is_open=is_open,
        is_featured=is_featured,
        remarks=list(remarks(cell, findings=0)),
        witness=_witness_view(cell),
        changes=[
            (
                change,
                answer_strip(*change.answers, place=change.first_difference, texts=cell.token_texts)
                if number < _STRIPS_SHOWN
                else None,
            )
            for number, change in enumerate(changed[:_CHANGES_SHOWN])
        ],
        changes_left_out=max(0, len(changed) - _CHANGES_SHOWN),
        spreads=spreads(evidence) if evidence else [],
        moments=moments(evidence) if evidence else [],
        proofs=[
            group.findings[0]
            for group in words.grouped(cell.result.findings)
            if group.strength is Strength.PROOF
        ],
        memory=_memory(cell),
        plots=list(_plots(evidence)) if evidence and is_plotted else [],
        log=_log(cell),
    )


def _memory(cell: CellReport) -> list[Measure]:
    if cell.result.cause is not Cause.MEMORY or cell.recording is None:
        return []
    return [each for each in measures(cell.recording) if each.unit == "bytes"]


def _log(cell: CellReport) -> list[str]:
    failure = cell.recording.failure if cell.recording else None
    text = cell.server_log or (failure.log_tail if failure else "")
    return [shorten(line, limit=_LINE_SHOWN) for line in visible(text).splitlines()]


def _witness_view(cell: CellReport) -> WitnessView | None:
    witness = cell.result.witness
    if witness is None:
        return None
    return WitnessView(
        witness=witness,
        where=where_they_part(witness),
        parting=parting(witness),
        rows=[row for row in facts(witness, token_texts=cell.token_texts) if not row.is_rank],
        likeliest=[
            ("baseline", likeliest(witness.baseline, texts=cell.token_texts)),
            ("after", likeliest(witness.after, texts=cell.token_texts)),
        ],
        strip=token_strip(witness, cell.recording, texts=cell.token_texts),
        picture=_picture(witness, cell),
    )


def _picture(witness: Witness, cell: CellReport) -> str | None:
    """What the witness's prompt shows; nothing but an image that the page itself holds."""
    prompt = cell.recording.prompts.get(witness.prompt) if cell.recording else None
    url = prompt.picture if prompt else None
    return url if url and url.startswith("data:image/") else None


def _plots(evidence: Evidence) -> Iterator[Plot]:
    """Of answers only where any of them differs."""
    differ = not all(pair.identical for pair in (*evidence.null, *evidence.after))
    if differ and (picture := agreement_plot(agreements(evidence))):
        hint = "The index of the first token that differs; = where all are equal."
        yield Plot("Agreement with the baseline", hint, [picture])
    if differ and (pictures := shape_plots(shapes(evidence))):
        hint = "A cross inside its circle is an answer shaped like its baseline."
        yield Plot("Length and repetition", hint, pictures)
    if pictures := memory_plots(evidence.recording):
        hint = "Shaded: the engine was asleep. Dotted lines: a pass began."
        yield Plot("Memory", hint, pictures, either=True)


def _grounds(report: Report) -> list[tuple[str, str, list[str]]]:
    """What was compared with what: scenario, why it is asked, and the sentences, once a scenario."""
    grounds: dict[str, tuple[str, str, list[str]]] = {}
    for cell in report.cells:
        recording = cell.recording
        if recording and (recording.passes or cell.result.scenario not in grounds):
            sentences = [words.comparison_sentence(recording), *words.method_sentences(recording)]
            grounds.setdefault(cell.result.scenario, (cell.result.scenario, recording.cell.why, sentences))
    return list(grounds.values())


def _settings(run: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name every leaf of ``run.json`` by its path, ``machine.cores``; what is a cell's is told there."""
    for key, value in run.items():
        match value:
            case dict() if not prefix and key in {"cells", "servers"}:
                continue
            case dict():
                yield from _settings(value, f"{prefix}{key}.")
            case str():
                yield f"{prefix}{key}", value
            case list() if all(isinstance(each, str) for each in value):
                yield f"{prefix}{key}", " ".join(map(str, value))
            case _:
                yield f"{prefix}{key}", compact(value)


def compact(value: JsonValue) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False)
