"""``summary.md``: the report as GitHub-flavoured Markdown, for job summaries and comments."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from harness.check.result import Witness
from harness.report.advice import advice
from harness.report.model import CellReport, Report
from harness.report.remarks import remarks, why
from harness.report.spending import spending_md
from harness.report.text import count, end_of, one_line, shorten, visible
from harness.report.witness import ENDS_HERE, facts, parting, where_they_part
from harness.report.words import cause_of, false_alarms, headline, run_outcome, short_bound, what_was_found

LIMIT_BYTES = 1_000_000
"""A GitHub job summary over 1 MiB is refused whole."""

SYMBOLS = {
    "clean": "✅",
    "corrupt": "❌",
    "degraded": "🔻",
    "inconclusive": "❔",
    "error": "⚠️",
    "interrupted": "⏹️",
}

_ANSWER_SHOWN = 2_000
_FINDINGS_SHOWN = 8
"""Of each checker."""
_LOG_LINES_SHOWN = 40
_REASON_SHOWN = 1_000
_CELLS_IN_TABLE = 500

_MEANS_SOMETHING = re.compile(
    r"""[\\`*_{}\[\]<>#+!|~&@"$^=]|^(?!\d+(?:[^\d.)]|[.)]\S|$))[^A-Za-z]|:(?=\S)|(?<=www)\.""", re.IGNORECASE
)
"""Markup anywhere; at the start of a line also what begins a list, a rule or a block of code.

A number at the start begins a list only with ``.`` or ``)`` and a space behind it.
"""


def summary_md(report: Report) -> str:
    """Return the summary; cells whose details would exceed the limit are named as left out."""
    text = "\n".join(_overview(report)) + "\n"
    room = LIMIT_BYTES - len(text.encode())
    left_out = 0
    for cell in report.cells:
        if cell.outcome == "clean":
            continue
        details = "\n".join(_details(cell)) + "\n"
        room -= len(details.encode())
        if room < 0:
            left_out += 1
        else:
            text += details
    if left_out:
        text += f"\nThe details of {count(left_out, 'more cell')} do not fit here: see `report.html`.\n"
    return text


def escaped(text: str) -> str:
    """Return ``text`` on one line so that Markdown shows it as it is: no markup, link, mention or emoji."""
    return _MEANS_SOMETHING.sub(lambda found: f"&#{ord(found[0])};", one_line(text))


def _overview(report: Report) -> Iterator[str]:
    outcome = run_outcome(report)
    yield f"## {SYMBOLS[outcome]} sleepwake: {outcome}"
    yield ""
    yield escaped(headline(report))
    yield ""
    next_step = advice(report)
    yield f"**Do this next:** {escaped(next_step.sentence)}"
    if next_step.command:
        yield ""
        yield block(next_step.command)
    yield ""
    yield "| verdict | scenario | arm | cause | findings | bound | vLLM |"
    yield "|---|---|---|---|---:|---|---|"
    for cell in report.cells[:_CELLS_IN_TABLE]:
        result = cell.result
        fields = (
            f"{SYMBOLS[cell.outcome]} {cell.outcome}",
            _short(result.scenario),
            _short(result.arm),
            cause_of(cell),
            str(len(result.findings) or ""),
            escaped(short_bound(result.bound)),
            _short(result.vllm_version or ""),
        )
        yield f"| {' | '.join(fields)} |"
    if len(report.cells) > _CELLS_IN_TABLE:
        yield ""
        yield f"{count(len(report.cells) - _CELLS_IN_TABLE, 'more cell')}: see `verdict.json`."
    yield ""
    yield f"Emulated: {_short('; '.join(report.emulated)) or 'nothing'}."
    if report.faults:
        yield ""
        yield f"Planted on purpose: {_short('; '.join(report.faults))}."
    if rate := false_alarms(report):
        yield ""
        yield f"False alarms: {escaped(rate)}."
    yield from spending_md(report)


def _short(text: str) -> str:
    return escaped(shorten(text, limit=_REASON_SHOWN))


def _details(cell: CellReport) -> Iterator[str]:
    result = cell.result
    yield ""
    yield f"### {SYMBOLS[cell.outcome]} {_short(cell.title)}"
    yield ""
    yield _short(what_was_found(cell))
    yield ""
    for label, text in why(cell):
        yield f"- {label}: {_short(text)}"
    for label, text in remarks(cell, findings=_FINDINGS_SHOWN, log_lines=_LOG_LINES_SHOWN):
        yield f"- {label}: {_short(text)}"
    if cell.reproduce:
        yield ""
        yield block(cell.reproduce)
    if result.witness:
        yield from witness_md(result.witness, cell=cell)


def block(text: str) -> str:
    """Return a block of literal text.  HTML, because no run of backticks inside can end it."""
    return f"<pre>{_literal(text)}</pre>"


def fenced(text: str, *, language: str = "") -> Iterator[str]:
    """Yield a block of literal text that reads as it is before it is rendered, too.

    Its fence is longer than any run of backticks inside, so that none of them can end it.
    """
    shown = visible(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}{language}"
    yield from shown.split("\n")
    yield fence


def _literal(text: str) -> str:
    return html.escape(visible(text)).replace("\n", "&#10;")


def witness_md(witness: Witness, *, cell: CellReport) -> Iterator[str]:
    """Yield the two answers side by side, folded."""
    split = parting(witness)
    yield ""
    yield f"<details><summary>Witness: prompt {_short(witness.prompt)}</summary>"
    yield ""
    yield escaped(where_they_part(witness))
    yield ""
    yield block(shorten(witness.prompt_text, limit=_ANSWER_SHOWN))
    yield ""
    shared = _literal(end_of(split.shared, limit=_ANSWER_SHOWN))
    for name, rest in (("baseline", split.baseline), ("after", split.after)):
        different = _literal(shorten(rest, limit=_ANSWER_SHOWN)) or ENDS_HERE
        yield f"**{name}**"
        yield ""
        yield f"<pre>{shared}▶<b>{different}</b></pre>"
        yield ""
    yield "| | baseline | after |"
    yield "|---|---|---|"
    for row in facts(witness, token_texts=cell.token_texts):
        yield f"| {row.label} | {_short(row.baseline)} | {_short(row.after)} |"
    yield ""
    yield "</details>"
