"""What there is to say about a cell besides its verdict and its witness, as labelled lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.check.others import others
from harness.check.result import ControlOutcome
from harness.check.wording import control_sentence
from harness.history.events import CERTAIN
from harness.history.recording import Recording
from harness.report.model import CellReport, Report
from harness.report.spending import spending_sentence
from harness.report.text import count, one_line, visible
from harness.report.words import (
    comparison_sentence,
    control_result,
    control_words,
    false_alarms,
    finding_line,
    grouped,
    noise_sentence,
)


class Remark(NamedTuple):
    """One labelled line; neither part holds a character that does not show itself."""

    label: str
    text: str


def remarks_on_run(report: Report) -> Iterator[Remark]:
    """Yield what there is to say about the whole run besides its verdict."""
    yield Remark("emulated", "; ".join(report.emulated) or "nothing")
    if report.faults:
        yield Remark("planted on purpose", "; ".join(report.faults))
    if rate := false_alarms(report):
        yield Remark("false alarms", rate)
    if spent := spending_sentence(report):
        yield Remark("time", spent)


def why(cell: CellReport) -> Iterator[Remark]:
    """Yield what speaks for the cause, and what else there is to say, one observation each.

    With ``what_was_found`` it says the whole reason, once.
    """
    grounds = cell.result.grounds
    if grounds is None:
        return
    for each in grounds.because:
        yield Remark("because", one_line(each))
    for each in grounds.further:
        yield Remark("besides" if grounds.lacks else "also", one_line(each))


def remarks(
    cell: CellReport, *, findings: int | None = None, log_lines: int | None = None
) -> Iterator[Remark]:
    """Yield the remarks on ``cell``, what decided its verdict first.

    At most so many ``findings`` of each checker, and ``log_lines`` from the end of a dead server's log.
    """
    yield from _error(cell, log_lines=log_lines)
    yield from _findings(cell, limit=findings)
    for control in controls_untold(cell):
        yield Remark("control", f"{control_words(control)}: {control_result(control)}")
    for excluded in cell.result.ruled_out:
        yield Remark("ruled out", one_line(excluded))
    yield from _conditions(cell)


def controls_untold(cell: CellReport) -> list[ControlOutcome]:
    """Return the controls that are not among what speaks for the cause already."""
    told = set(cell.result.grounds.because if cell.result.grounds else ())
    return [each for each in cell.result.controls if each.note or control_sentence(each) not in told]


def _error(cell: CellReport, *, log_lines: int | None) -> Iterator[Remark]:
    failure = cell.recording.failure if cell.recording else None
    if cell.result.error:
        yield Remark("error", one_line(cell.result.error))
    if failure is None:
        return
    yield Remark("cause", one_line(failure.cause))
    if failure.remedy:
        yield Remark("remedy", one_line(failure.remedy))
    lines = visible(failure.log_tail).splitlines()
    for line in lines if log_lines is None else lines[-log_lines:]:
        yield Remark("server's log", line)


def _findings(cell: CellReport, *, limit: int | None) -> Iterator[Remark]:
    for group in grouped(cell.result.findings):
        for finding in group.findings[:limit]:
            yield Remark("finding", finding_line(finding))
        left = 0 if limit is None else len(group.findings) - limit
        if left > 0:
            yield Remark("finding", f"{group.checker}: {left} more in verdict.json")


def _why_left_out(recording: Recording | None) -> str:
    if recording is None or recording.skipped_because == CERTAIN:
        return "which could not change the verdict (--thorough: none)"
    return recording.skipped_because


def _conditions(cell: CellReport) -> Iterator[Remark]:
    result, recording = cell.result, cell.recording
    if recording and recording.passes:
        yield Remark("compared", one_line(comparison_sentence(recording)))
        yield Remark("noise floor", noise_sentence(result.noise))
    if cell.batches_matter:
        floor = noise_sentence(cell.batches_matter.noise)
        yield Remark("without batch invariance", one_line(f"{cell.batches_matter.arm}: {floor}"))
    if result.bound:
        yield Remark("bound", one_line(result.bound.statement))
    if result.speed:
        yield Remark("speed", one_line(result.speed))
    if result.skipped:
        yield Remark(
            "left out",
            one_line(f"{count(len(result.skipped), 'step')}, {_why_left_out(recording)}"),
        )
    if recording and recording.server and recording.server.shared_with:
        before = ", ".join(recording.server.shared_with)
        yield Remark("server", one_line(f"shared with {before}; it answered as it did when it was fresh"))
    if recording and (sent := others(recording)):
        yield Remark("others", one_line(sent.sentence))
    if result.fault:
        yield Remark("planted fault", one_line(result.fault))
    if result.emulated:
        yield Remark("emulated", one_line("; ".join(result.emulated)))
    version, runtime = result.vllm_version or "unknown", result.runtime or "unknown"
    yield Remark("ran on", one_line(f"vLLM {version}, runtime {runtime}"))
