"""Which cell is reported, and the files of its report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from harness.check import judge_run
from harness.errors import HistoryError, UsageError, did_you_mean
from harness.history.files import read_ordinary, replace_file, storing
from harness.history.integrity import DIGEST, digest_of, resealed
from harness.history.layout import HISTORY_FILE, RUN_FILE, SERVER_LOG, cell_folder
from harness.history.run_description import DescribedCell
from harness.report.bug_report.issue import issue_md
from harness.report.bug_report.private import Private, is_telling
from harness.report.bug_report.reproduction import reproduction
from harness.report.bug_report.scripts import repro_py, repro_sh, repro_test_py
from harness.report.model import CellReport, Report, worst_first
from harness.report.page import report_html
from harness.report.verdict_json import verdict_json
from harness.report.writer import HTML_FILE, VERDICT_FILE

FOLDER = "bug-reports"
"""Where reports are written within their run unless told otherwise, one folder a cell."""

_EXECUTABLE = 0o755


@dataclass(frozen=True, kw_only=True)
class BugReport:
    """What was written."""

    cell: str
    directory: Path
    files: tuple[str, ...]


def choose_cell(report: Report, name: str | None) -> CellReport:
    """Return the cell that is to be reported: the one named, else the worst.

    Raises:
        UsageError: there is no such cell, or there is nothing to report about it.
    """
    cells = {cell.result.cell: cell for cell in report.cells}
    if name is not None and name not in cells:
        hint = did_you_mean(name, cells, otherwise=f"the cells are: {', '.join(cells)}")
        raise UsageError(f"--cell: unknown cell {name!r}", remedy=hint)
    candidates = [cells[name]] if name is not None else list(report.cells)
    broken = [cell for cell in candidates if cell.outcome not in {"clean", "interrupted"} and cell.recording]
    if not broken:
        raise UsageError(
            "there is nothing to report: every cell that was run is clean", remedy="name another run"
        )
    return worst_first(broken)[0]


def write_bug_report(
    report: Report, cell: CellReport, *, run_directory: Path, out: Path, private: Private, collected: str = ""
) -> BugReport:
    """Write the report of ``cell`` into ``out``, which is made; files of an earlier one are replaced.

    Raises:
        HistoryError: what was recorded is not there any more.
        StorageError: it cannot be written.
    """
    with storing(out, cannot="be created", remedy="name another place with --out"):
        out.mkdir(parents=True, exist_ok=True)
    private = replace(private, hosts=private.hosts | _endpoint_hosts(report))
    texts = {name: private.hide(text) for name, text in _texts(report, cell, run_directory, collected)}
    for name, text in _sealed_anew(texts, cell.result.cell).items():
        replace_file(out / name, text)
    if "repro.sh" in texts:
        (out / "repro.sh").chmod(_EXECUTABLE)
    return BugReport(cell=cell.result.cell, directory=out, files=tuple(texts))


def _sealed_anew(texts: Mapping[str, str], cell: str) -> dict[str, str]:
    """The files with the digests of what is in them now that what is private is hidden."""
    history, ended_with = resealed(texts[HISTORY_FILE])
    run: dict[str, JsonValue] = json.loads(texts[RUN_FILE])
    run["histories"] = {cell: ended_with} if ended_with else {}
    run[DIGEST] = digest_of(run)
    described = json.dumps(run, indent=2, ensure_ascii=False) + "\n"
    return {**texts, HISTORY_FILE: history, RUN_FILE: described}


def _texts(
    report: Report, cell: CellReport, run_directory: Path, collected: str
) -> Iterator[tuple[str, str]]:
    described = report.run.cells.get(cell.result.cell, DescribedCell())
    repro = reproduction(cell, described)
    script = repro_py(repro, recorded_with=_recorded_with(cell)) if repro else None
    yield "ISSUE.md", issue_md(cell, report.run, repro=repro, script=script, collected=collected)
    if repro and script:
        yield "repro.py", script
        yield "repro.sh", repro_sh(repro)
        yield "test_repro.py", repro_test_py(repro)
    rate = {"false_alarms": report.result.false_alarms}
    alone = replace(
        report,
        cells=(cell,),
        result=judge_run([cell.result], run=report.result.run).model_copy(update=rate),
    )
    yield HTML_FILE, report_html(alone)
    yield VERDICT_FILE, verdict_json(alone.result)
    run = report.run.model_copy(update={"cells": {cell.result.cell: described}})
    yield RUN_FILE, json.dumps(run.as_json(), indent=2, ensure_ascii=False) + "\n"
    yield HISTORY_FILE, _read(cell_folder(run_directory, cell.result.cell) / HISTORY_FILE)
    log = cell_folder(run_directory, cell.log_cell) / SERVER_LOG
    if log.exists():
        yield SERVER_LOG, _read(log)


def _endpoint_hosts(report: Report) -> frozenset[str]:
    endpoint = report.run.options.endpoint
    host = urlsplit(endpoint).hostname if endpoint else None
    return frozenset([host] if host and is_telling(host) else [])


def _recorded_with(cell: CellReport) -> str:
    server = cell.recording.server if cell.recording else None
    version = server.vllm_version if server else None
    return f"vLLM {version}" if version else "an unknown release"


def _read(path: Path) -> str:
    try:
        return read_ordinary(path).decode(errors="replace")
    except OSError as error:
        raise HistoryError(
            f"cannot be read: {error.strerror}", path=path, remedy="the run directory is not complete"
        ) from error
