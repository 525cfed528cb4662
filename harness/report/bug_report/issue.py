"""``ISSUE.md``: a damaged cell in the shape of vLLM's bug template."""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.evidence import Evidence
from harness.check.result import Witness
from harness.history.run_description import RunDescription
from harness.report.bug_report.first_lines import curl_lines
from harness.report.bug_report.reproduction import Reproduction, obstacle
from harness.report.model import CellReport
from harness.report.remarks import controls_untold, why
from harness.report.summary import escaped, fenced
from harness.report.tables import Row, Table, markdown_table
from harness.report.text import count, mebibytes, one_line, shorten, visible
from harness.report.timeline import moments
from harness.report.witness import facts, where_they_part
from harness.report.words import (
    cause_of,
    comparison_sentence,
    control_result,
    control_words,
    finding_line,
    noise_sentence,
    transition_words,
    what_was_found,
)

LIMIT_CHARACTERS = 65_000
"""GitHub refuses an issue of more than 65536 characters."""

_CHECKED = (
    "Make sure you already searched for relevant issues, and asked the chatbot living at the bottom right "
    "corner of the [documentation page](https://docs.vllm.ai/en/latest/), which can answer lots of "
    "frequently asked questions."
)
"""The template's own words."""

_FINDINGS_SHOWN = 12
_ROWS_SHOWN = 40
_SENTENCE_SHOWN = 1_000
_COMMAND_SHOWN = 4_000
_SCRIPT_SHOWN = 12_000
_ANSWER_SHOWN = 2_000


def issue_md(
    cell: CellReport,
    run: RunDescription,
    *,
    repro: Reproduction | None,
    script: str | None,
    collected: str = "",
) -> str:
    """Return the text of the issue.

    ``script`` is that of ``repro.py``, which does what ``repro`` says, and ``collected`` what vLLM's own
    ``collect_env`` says, where the server itself did not tell.
    """
    bug = [
        "",
        "### 🐛 Describe the bug",
        "",
        *_description(cell),
        *_reproduction(cell, repro, script),
        *_evidence(cell),
        "### Before submitting a new issue...",
        "",
        f"- [ ] {_CHECKED}",
        "",
    ]
    lines = [
        f"<!-- Title: [Bug]: {one_line(title(cell)).replace('--', '- -')} -->",
        "",
        *_first_lines(cell, repro),
        "### Your current environment",
        "",
        *_environment(cell, run, collected, room=LIMIT_CHARACTERS - sum(len(line) + 1 for line in bug)),
        *bug,
    ]
    return "\n".join(lines)


def _first_lines(cell: CellReport, repro: Reproduction | None) -> Iterator[str]:
    """What most readers look at and nothing else: the bug in a few lines of shell."""
    lines = curl_lines(repro, cell.result.witness) if repro else []
    if not lines or cell.result.fault:
        return
    version = cell.result.vllm_version or "of an unknown release"
    yield f"**In short**, with vLLM {escaped(version)}: {_short(what_was_found(cell))}."
    yield ""
    yield from fenced("\n".join(lines), language="sh")
    yield ""


def title(cell: CellReport) -> str:
    """What the issue is called, without vLLM's prefix."""
    transitions = transition_words(cell.recording) if cell.recording else ""
    after = f" after {transitions}" if transitions else ""
    cause = f" ({cause_of(cell)})" if cell.result.cause else ""
    what = {
        "corrupt": "answers change",
        "degraded": "the engine does not come back as it was",
        "error": "the engine fails",
    }.get(cell.outcome, "cannot tell whether answers hold")
    return f"{what}{after}{cause}"


def _environment(cell: CellReport, run: RunDescription, here: str, *, room: int) -> Iterator[str]:
    facts = "\n".join(f"{name}: {one_line(value)}" for name, value in _facts(cell, run))
    collected = "\n".join(_collected(cell)) or here
    by = "the server collected" if _collects(cell) else "vLLM says here"
    more = f"and what {by} as" if collected else "please add the output of"
    yield "<details>"
    yield f"<summary>What was recorded; {more} <code>python collect_env.py</code></summary>"
    yield ""
    yield from fenced(facts)
    if collected:
        yield ""
        yield from fenced(shorten(visible(collected), limit=max(0, room - len(facts) - _ANSWER_SHOWN)))
    yield ""
    yield "</details>"


def _facts(cell: CellReport, run: RunDescription) -> Iterator[tuple[str, str]]:
    server = cell.recording.server if cell.recording else None
    machine, model = run.machine, run.model
    if server:
        yield "vLLM", server.vllm_version or "unknown"
        yield "runtime", server.runtime
        if server.image:
            yield "image", f"{server.image} {server.image_digest or ''}".rstrip()
    yield "emulated", "; ".join(cell.result.emulated) or "nothing"
    yield "model", f"{model.name or 'unknown'} ({model.source or 'unknown'}, {model.checksum})"
    yield "system", machine.system or "unknown"
    yield "processor", f"{machine.processor or 'unknown'}, {machine.cores or '?'} cores"
    yield "memory", mebibytes(machine.memory_bytes)
    yield "Python", machine.python or "unknown"
    yield "sleepwake", run.sleepwake or "unknown"
    if server:
        yield "server", shorten(server.command, limit=_COMMAND_SHOWN) or "was running already"


def _collects(cell: CellReport) -> bool:
    return any(True for _ in _collected(cell))


def _collected(cell: CellReport) -> Iterator[str]:
    """What ``/server_info`` says of the server's system; longer texts below their names."""
    server = cell.recording.server if cell.recording else None
    told = server.environment if server else None
    for name, value in told.items() if isinstance(told, dict) else ():
        if value not in (None, ""):
            text = str(value).strip("\n")
            yield f"{name}:\n{text}" if "\n" in text else f"{name}: {text}"


def _description(cell: CellReport) -> Iterator[str]:
    result = cell.result
    if result.fault:
        yield f"**The fault {_short(result.fault)} had been planted on purpose: this is not a bug of vLLM.**"
        yield ""
    yield f"**{cell.outcome}**: {_short(what_was_found(cell))}."
    yield ""
    for label, text in why(cell):
        yield f"- {label}: {_short(text)}"
    yield ""
    if cell.recording and cell.recording.passes:
        yield f"What was done: {_short(comparison_sentence(cell.recording))}"
        yield ""
        yield (
            "Expected: the model that wakes up answers as the one that fell asleep. "
            f"Noise floor: {_short(noise_sentence(result.noise))}."
        )
        yield ""
    if result.emulated:
        yield (
            f"Emulated: {_short('; '.join(result.emulated))}. "
            "Everything above vLLM's worker is vLLM's own code, unchanged."
        )
        yield ""
    untold = controls_untold(cell)
    if untold or result.ruled_out:
        yield "Controls that were asked besides to find the cause, and what they ruled out:"
        yield ""
        for control in untold:
            yield f"- {_short(control_words(control))}: {_short(control_result(control))}"
        for excluded in result.ruled_out:
            yield f"- {_short(excluded)}"
        yield ""
    if result.witness:
        yield from _witness(result.witness, cell)


def _witness(witness: Witness, cell: CellReport) -> Iterator[str]:
    yield f"Witness: prompt {_short(witness.prompt)}. {escaped(where_they_part(witness))}"
    yield ""
    for name, text in (
        ("prompt", witness.prompt_text),
        ("baseline", witness.baseline.text),
        ("after", witness.after.text),
    ):
        yield f"{name}:"
        yield ""
        yield from fenced(shorten(visible(text), limit=_ANSWER_SHOWN))
        yield ""
    rows = [
        Row(fields=(row.label, row.baseline, row.after))
        for row in facts(witness, token_texts=cell.token_texts)
    ]
    yield from markdown_table(Table(headings=("", "baseline", "after"), rows=tuple(rows)))


def _reproduction(cell: CellReport, repro: Reproduction | None, script: str | None) -> Iterator[str]:
    if repro is None or script is None:
        why = obstacle(cell) or "no prompt was ever answered"
        yield f"No script reproduces this with vLLM alone: {_short(why)}."
        yield f"The whole cell: {_short(cell.reproduce)}"
        yield ""
        return
    yield (
        "To see it again, with nothing but vLLM and httpx: `./repro.sh`. It asks prompt "
        f"{_short(repro.prompt)} ({count(len(repro.prompt_token_ids), 'token')}) twice, carries the recorded "
        "transitions out, asks again, and ends with MATCH (exit code 0) or DIVERGED (1). "
        f"The whole cell: {_short(cell.reproduce)}"
    )
    yield ""
    if cell.outcome == "degraded":
        yield "The script compares answers, and those were right; what was wrong is in the findings below."
        yield ""
    if cell.recording and cell.recording.requests:
        yield (
            "The cell sent requests beside the transitions, and the script does not: "
            "MATCH does not clear an engine that needs them to fail."
        )
        yield ""
    if len(script) <= _SCRIPT_SHOWN:
        yield "<details>"
        yield "<summary>repro.py</summary>"
        yield ""
        yield "```python"
        yield script.rstrip("\n")
        yield "```"
        yield ""
        yield "</details>"
        yield ""


def _evidence(cell: CellReport) -> Iterator[str]:
    if cell.result.findings:
        yield "Findings:"
        yield ""
        for finding in cell.result.findings[:_FINDINGS_SHOWN]:
            yield f"- {_short(finding_line(finding))}"
        left = len(cell.result.findings) - _FINDINGS_SHOWN
        if left > 0:
            yield f"- {left} more in verdict.json"
        yield ""
    if cell.recording is None:
        return
    if cell.recording.failure:
        yield "The last lines of the server's log:"
        yield ""
        yield from fenced(shorten(visible(cell.recording.failure.log_tail), limit=_COMMAND_SHOWN))
        yield ""
    rows = [
        Row(fields=(f"{moment.t:.1f}", "; ".join((moment.what, *moment.trouble)), moment.took, moment.seen))
        for moment in moments(Evidence(cell.recording))
    ]
    yield "<details>"
    yield f"<summary>Timeline: {count(len(rows), 'step')}</summary>"
    yield ""
    shown = Table(headings=("second", "what", "took", "seen from outside"), rows=tuple(rows[:_ROWS_SHOWN]))
    yield from markdown_table(shown)
    if len(rows) > _ROWS_SHOWN:
        yield f"{len(rows) - _ROWS_SHOWN} more in report.html."
        yield ""
    yield "</details>"
    yield ""


def _short(text: str) -> str:
    return escaped(shorten(text.rstrip("."), limit=_SENTENCE_SHOWN))
