"""The commands that read runs on disk: no server is started.

What only one of them needs is imported by it, so that judging a run starts in a fraction of a second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from harness.cli.option_sources import runs_folder
from harness.cli.shared import OutOption, RunArgument, new_console, print_lines
from harness.errors import ExitCode, UsageError
from harness.extras import require
from harness.history.files import read_ordinary
from harness.runs.finding import REPORTS, find_run, pin_run


def check(name: RunArgument = None, /) -> int:
    """Judge a stored run again, without a server.

    Its page takes seconds to draw, and is written again only where the judgement is another one. Where it
    cannot be drawn, for want of the extra `report`, it is removed then.

    Args:
        name: A run directory. Without one: the latest.
    """
    from harness.report import show_report, write_report
    from harness.report.writer import HTML_FILE, VERDICT_FILE
    from harness.runs.judging import judge_directory

    directory = _find_run(name)
    judged = judge_directory(directory)
    judgement = directory / VERDICT_FILE
    try:
        before = read_ordinary(judgement)
    except OSError:  # it was never written, or is no file: it is written now, if it can be
        before = b""
    write_report(directory, judged.report, html=False)
    if (directory / HTML_FILE).exists() and judgement.read_bytes() != before:
        write_report(directory, judged.report)
    show_report(judged.report, new_console())
    return judged.result.exit_code


def report(name: RunArgument = None, /) -> int:
    """Write the reports of a stored run again, and say where the HTML report is.

    Args:
        name: A run directory. Without one: the latest.
    """
    require("report", for_what="report.html")
    from harness.report import write_report
    from harness.runs.judging import judge_directory

    directory = _find_run(name)
    print_lines([str(write_report(directory, judge_directory(directory).report).html)])
    return ExitCode.CLEAN


def merge(
    *runs: Annotated[Path, Parameter(name="RUN")],
    out: OutOption = REPORTS,
) -> int:
    """Put the shards of one matrix together into the run that one machine would have recorded.

    Args:
        runs: The run directories of every shard, in any order.
        out: The folder that holds the run directories; the merged one is written there.
    """
    from harness.cli.concluding import conclude
    from harness.runs.merging import merge as merge_shards

    merged = merge_shards([find_run(str(run), out=out) for run in runs], out=out)
    return conclude(merged, new_console())


def compare(
    first: Annotated[str, Parameter(name="A")],
    second: Annotated[str, Parameter(name="B")],
    /,
    *,
    fail_on: Literal["changed", "worse"] | None = None,
    markdown: Annotated[bool, Parameter(negative=())] = False,
    html: Path | None = None,
) -> int:
    """Set two stored runs side by side: verdicts, times, memory, noise floors.

    Args:
        first: A run directory, or pinned.
        second: Another one.
        fail_on: End with 1 if a verdict changed, or if one became worse; with 3 if that cannot be told,
            because a cell has no verdict any more. Without it the end is 0.
        markdown: Print Markdown, for comments and summaries.
        html: Write the comparison to this file as well.
    """
    if html is not None:
        require("report", for_what="--html")
    from harness.report.two_runs import TwoRuns, show_two_runs, two_runs_md
    from harness.runs.judging import judge_directory

    runs = TwoRuns(
        first=judge_directory(_find_run(first)).report, second=judge_directory(_find_run(second)).report
    )
    if markdown:
        print_lines([two_runs_md(runs)])
    else:
        show_two_runs(runs, new_console())
    if html is not None:
        from harness.history.files import replace_file
        from harness.report.two_runs_page import two_runs_html

        replace_file(html, two_runs_html(runs))
    return runs.held_against(fail_on) if fail_on else ExitCode.CLEAN


def pin(name: RunArgument = None, /) -> int:
    """Pin a run: from now on `pinned` names it, for example in `sleepwake compare pinned latest`.

    Args:
        name: A run directory. Without one: the latest.
    """
    directory = _find_run(name)
    link = pin_run(directory, out=runs_folder(REPORTS))
    print_lines([f"pinned: {link} is {directory.name}"])
    return ExitCode.CLEAN


def bug_report(
    name: RunArgument = None,
    /,
    *,
    cell: str | None = None,
    out: Path | None = None,
) -> int:
    """Write a directory that can be attached to a vLLM issue.

    It holds ISSUE.md in the shape of vLLM's bug template, which begins with the bug in a few lines of shell,
    and repro.sh and repro.py, which show it again with nothing but vLLM and httpx. Secrets, host names and
    home folders are taken out; prompts and answers are not.

    Args:
        name: A run directory. Without one: the latest.
        cell: The cell to report. Default: the worst one.
        out: The directory to write. Default: one for the cell within the run.
    """
    from harness.report import bug_report as bundle
    from harness.runs.judging import judge_directory
    from harness.servers.collected import collect_env

    directory = _find_run(name)
    report = judge_directory(directory).report
    reported = bundle.choose_cell(report, cell)
    server = reported.recording.server if reported.recording else None
    told = server is not None and bool(server.environment)
    written = bundle.write_bug_report(
        report,
        reported,
        run_directory=directory,
        out=out or directory / bundle.FOLDER / reported.result.cell,
        private=bundle.Private.of_this_machine(),
        collected="" if told else collect_env(reported.result.vllm_version),
    )
    print_lines([f"{written.cell}: {', '.join(written.files)}", f"bug report: {written.directory}"])
    return ExitCode.CLEAN


def history(*, html: Path | None = None, last: int = 30, out: OutOption = REPORTS) -> int:
    """List the runs on disk, the newest last.

    Args:
        html: Write a page with the verdicts, noise, times and memory of every cell over time.
        last: How many runs the page shows at most, the newest.
        out: The folder that holds the run directories.
    """
    from harness.report.tables import show_table
    from harness.runs.listing import past_runs, past_runs_table

    if html is not None:
        return _write_trends(html, last=last, out=out)

    runs = past_runs(out)
    if runs:
        show_table(past_runs_table(runs), new_console())
    else:
        print_lines([f"no run in {out}"])
    return ExitCode.CLEAN


def _write_trends(html: Path, *, last: int, out: Path) -> int:
    require("report", for_what="--html")
    from harness.history.files import replace_file
    from harness.report.trends import trends_html
    from harness.report.writer import HTML_FILE
    from harness.runs.trends import past_cells

    if last < 1:
        raise UsageError(f"--last: {last} is less than 1", remedy="give the number of runs to show")
    runs = past_cells(out, last=last)
    if not runs:
        raise UsageError(
            f"--html: no judged run in {out}", remedy="run scenarios first, or name another --out"
        )
    links = {
        run.name: Path(os.path.relpath(out / run.name / HTML_FILE, html.parent)).as_posix()
        for run in runs
        if (out / run.name / HTML_FILE).exists()
    }
    replace_file(html, trends_html(runs, links=links))
    print_lines([str(html)])
    return ExitCode.CLEAN


def _find_run(name: str | None) -> Path:
    return find_run(name, out=runs_folder(REPORTS))
