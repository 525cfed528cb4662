"""The commands.  Thin: each turns its options into a call and its result into an exit code.

What starts servers is imported by the commands that need it, so that judging a stored run
starts in a fraction of a second.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.text import Text

from harness import __version__
from harness.check.result import RunResult
from harness.errors import ExitCode, SleepwakeError
from harness.option_sources import (
    OUT_VARIABLE,
    given_options,
    note_sources,
    runs_folder,
    variable,
    variable_of_words,
    variables_taken,
)
from harness.report import show_report, write_report
from harness.report.github import append_summary, commands_stopped, on_github, workflow_commands
from harness.report.tables import show_table
from harness.report.text import count
from harness.report.writer import write_whole
from harness.stored_run import REPORTS, find_run, judge_directory

if TYPE_CHECKING:
    from harness.scenario.cells import Cell
    from harness.servers.select import Choice
    from harness.workflow import RunOptions

app = App(
    name="sleepwake",
    help="Is the vLLM engine that wakes up still the one that fell asleep?",
    version=__version__,
    help_format="plaintext",
    config=note_sources,
    default_parameter=Parameter(negative_iterable=(), show_default=lambda value: value or None),
)
app.register_install_completion_command(
    name="--install-completion", help="Let bash, zsh or fish complete commands and options."
)

RuntimeOption = Annotated[Literal["auto", "docker", "process", "attached"], variable("SLEEPWAKE_RUNTIME")]
ArmsOption = Annotated[tuple[str, ...], Parameter(name="--arm")]
ModelOption = Annotated[str | None, variable("SLEEPWAKE_MODEL")]
VllmArgsOption = Annotated[tuple[str, ...], variable_of_words("SLEEPWAKE_VLLM_ARGS", option="--vllm-arg")]
OutOption = Annotated[Path, variable(OUT_VARIABLE)]


@app.command
def run(
    *paths: Path,
    runtime: RuntimeOption = "auto",
    vllm: Annotated[str | None, variable("SLEEPWAKE_VLLM")] = None,
    image: Annotated[str | None, variable("SLEEPWAKE_IMAGE")] = None,
    endpoint: Annotated[str | None, variable("SLEEPWAKE_ENDPOINT")] = None,
    model: ModelOption = None,
    fault: str | None = None,
    arms: ArmsOption = (),
    expression: Annotated[str | None, Parameter(name=["-k", "--expression"])] = None,
    list_cells: Annotated[bool, Parameter(name="--list", negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    vllm_args: VllmArgsOption = (),
    resume: Annotated[str | None, Parameter(name="--resume", show_default=False)] = None,
    keep_servers: Annotated[bool, Parameter(negative=())] = False,
    out: OutOption = REPORTS,
) -> int:
    """Run scenarios and judge what wakes up.

    What is given on the command line goes before what the environment says, and that before defaults.

    Args:
        paths: Scenario files, or folders of them. Without one: the default scenarios.
        runtime: How servers are started. auto takes the best this machine has and says why.
        vllm: The vLLM release to test.
        image: The container image to test.
        endpoint: URL of a server that is already running.
        model: A Hugging Face id or a model folder. Default: SmolLM2-135M-Instruct, without a hub.
        fault: Plant a corruption on purpose: a name, or FILE.py:function.
        arms: Run only this arm. Can be given several times.
        expression: Run only cells whose name matches, for example "level1 and not off".
        list_cells: Print the cells that would run, and stop.
        dry_run: Print the exact command of every cell's server, and stop.
        vllm_args: One more vLLM flag for every arm, for example --vllm-arg=--block-size=64. It overrules
            sleepwake's own defaults; an arm that sets the same flag overrules it, since arms are what is
            compared. In the environment: all of them in one line, as for a shell.
        resume: Carry on a run that was interrupted or met errors, under its own options, whatever the
            environment says by now: cells with a verdict are kept, whatever it is.
        keep_servers: Leave the servers running, for debugging, and say where. `sleepwake clean` ends them.
        out: The folder that holds the run directories.
    """
    from harness import workflow
    from harness.resume import resume as take_up

    options = workflow.RunOptions(
        paths=paths,
        arms=arms,
        expression=expression,
        runtime=runtime,
        vllm=vllm,
        image=image,
        endpoint=endpoint,
        model=model,
        fault=fault,
        vllm_args=vllm_args,
        out=out,
        keep_servers=keep_servers,
        sources=given_options(),
    )
    resumed = take_up(resume, workflow.without_environment(options)) if resume is not None else None
    options = resumed.options if resumed else options
    cells = list(resumed.cells) if resumed else workflow.plan_cells(options)
    if list_cells:
        _print_lines(cell.id for cell in cells)
        return ExitCode.CLEAN
    if resumed and not cells:
        _print_lines([f"nothing to run: {count(len(resumed.kept), 'cell')} with a verdict"])
        return _conclude(resumed.directory, Console(highlight=False))
    choice = workflow.choose(options)
    if dry_run:
        _print_lines(f"# {cell}\n{command}" for cell, command in workflow.commands(options, cells, choice))
        return ExitCode.CLEAN
    return _run(options, cells, choice, resume_in=resumed.directory if resumed else None)


def _run(options: RunOptions, cells: list[Cell], choice: Choice, *, resume_in: Path | None) -> int:
    from harness import workflow
    from harness.report.progress import Progress

    console = Console(highlight=False)
    console.print(Text(f"runtime: {choice.runtime.name} ({choice.reason})"), soft_wrap=True)
    with Progress(console, cells=len(cells)) as progress:
        finished = workflow.run(options, cells, choice, progress=progress, resume_in=resume_in)
    if not finished.whole:
        carry_on = f"interrupted; `sleepwake run --resume {finished.directory}` carries on"
        console.print(Text(carry_on), soft_wrap=True)
    for kept in choice.runtime.kept:
        sentence = f"{kept.cell} still answers at {kept.base_url}; `{kept.stop}` or `sleepwake clean` ends it"
        console.print(Text(sentence), soft_wrap=True)
    console.print()
    code = _conclude(finished.directory, console)
    return code if finished.whole else ExitCode.INTERRUPTED


def _conclude(directory: Path, console: Console) -> int:
    """Judge a run, write its reports and show them; return its exit code."""
    judged = judge_directory(directory)
    written = write_report(directory, judged.report)
    if on_github():
        append_summary(judged.report)
        _print_lines(workflow_commands(judged.report))
    with commands_stopped() if on_github() else nullcontext():
        show_report(judged.report, console, written=written)
    return judged.result.exit_code


@app.command
def bisect(
    *paths: Path,
    good: str,
    bad: str,
    versions: tuple[str, ...] = (),
    arms: ArmsOption = (),
    runtime: RuntimeOption = "auto",
    model: ModelOption = None,
    vllm_args: VllmArgsOption = (),
    out: OutOption = REPORTS,
) -> int:
    """Find the first good, or the first bad, vLLM release between two.

    Args:
        paths: The scenario that decides, as a file.
        good: A release that is good.
        bad: A release that is bad; it may be older or newer than the good one.
        versions: A release to consider. Can be given several times; default: those with an image recipe.
        arms: Run only this arm. Can be given several times.
        runtime: How servers are started; only docker can change the release.
        model: A Hugging Face id or a model folder.
        vllm_args: One more vLLM flag for every arm; an arm that sets the same flag overrules it.
        out: The folder that holds the run directories and the search's own file.
    """
    from harness import workflow
    from harness.explore import bisect as search
    from harness.explore.bisection import conclusion
    from harness.report.bisection import show_bisection
    from harness.report.progress import Progress
    from harness.servers.images import supported_versions

    options = workflow.RunOptions(
        paths=paths,
        arms=arms,
        runtime=runtime,
        model=model,
        vllm_args=vllm_args,
        out=out,
        sources=given_options(),
    )
    file = out / f"bisect-{'-'.join(path.stem for path in paths)}-{good}-{bad}.json"
    console = Console(highlight=False)
    begun = search.begin(
        options, good=good, bad=bad, versions=versions or supported_versions(), resume_from=file
    )
    ended = search.carry_on(
        begun,
        options,
        remember_in=file,
        progress=lambda cells: Progress(console, cells=cells),
        tell=lambda sentence: console.print(Text(sentence), soft_wrap=True),
    )
    show_bisection(
        [(trial.version, trial.outcome, trial.reason, trial.run) for trial in ended.trials],
        conclusion=conclusion(ended),
        reproduce=[
            f"sleepwake run {' '.join(map(str, paths))} --runtime docker --vllm {version}"
            for version in ended.neighbours
        ],
        console=console,
    )
    return ExitCode.INCONCLUSIVE if ended.contradiction else ExitCode.CLEAN


@app.command
def selftest(
    *,
    fault: tuple[str, ...] = (),
    runtime: RuntimeOption = "auto",
    vllm_args: VllmArgsOption = (),
    out: OutOption = REPORTS,
) -> int:
    """Plant every known corruption in a real engine, and see whether each is noticed and named.

    Ends with 0 if all are noticed and the healthy engines are clean, 3 if some are in doubt, else 1.

    Args:
        fault: Plant only this one. Can be given several times.
        runtime: How servers are started.
        vllm_args: One more vLLM flag, for example --vllm-arg=--dtype=bfloat16.
        out: The folder that holds the run directories.
    """
    from harness import workflow
    from harness.explore.selftest import Selftest, conclusion, faults_named, table
    from harness.report.progress import Progress

    faults = faults_named(fault)
    choice = workflow.choose(workflow.RunOptions(runtime=runtime))
    console = Console(highlight=False)
    console.print(Text(f"runtime: {choice.runtime.name} ({choice.reason})"), soft_wrap=True)
    planned = Selftest(faults=faults, choice=choice, out=out, vllm_args=vllm_args)
    directory, outcomes = planned.run(progress=lambda cells: Progress(console, cells=cells))
    show_table(table(outcomes), console)
    console.print(Text(conclusion(outcomes), style="bold"), soft_wrap=True)
    console.print(Text(f"recorded in {directory}"), soft_wrap=True)
    if any(each.result is None or each.result.error for each in outcomes):
        return ExitCode.INFRASTRUCTURE
    if any(not (each.as_expected or each.in_doubt) for each in outcomes):
        return ExitCode.CORRUPT_OR_DEGRADED
    return ExitCode.CLEAN if all(each.as_expected for each in outcomes) else ExitCode.INCONCLUSIVE


@app.command
def check(name: Annotated[str | None, Parameter(name="RUN")] = None, /) -> int:
    """Judge a stored run again, without a server.

    Args:
        name: A run directory. Without one: the latest.
    """
    directory = _find_run(name)
    judged = judge_directory(directory)
    write_report(directory, judged.report, html=False)
    show_report(judged.report, Console(highlight=False))
    return judged.result.exit_code


@app.command
def report(name: Annotated[str | None, Parameter(name="RUN")] = None, /) -> int:
    """Write the reports of a stored run again, and say where the HTML report is.

    Args:
        name: A run directory. Without one: the latest.
    """
    directory = _find_run(name)
    _print_lines([str(write_report(directory, judge_directory(directory).report).html)])
    return ExitCode.CLEAN


@app.command
def compare(
    first: Annotated[str, Parameter(name="A")],
    second: Annotated[str, Parameter(name="B")],
    /,
    *,
    markdown: Annotated[bool, Parameter(negative=())] = False,
    html: Path | None = None,
) -> int:
    """Set two stored runs side by side: verdicts, times, memory, noise floors.

    Args:
        first: A run directory.
        second: Another one.
        markdown: Print Markdown, for comments and summaries.
        html: Write the comparison to this file as well.
    """
    from harness.report.two_runs import TwoRuns, show_two_runs, two_runs_md

    runs = TwoRuns(
        first=judge_directory(_find_run(first)).report, second=judge_directory(_find_run(second)).report
    )
    if markdown:
        _print_lines([two_runs_md(runs)])
    else:
        show_two_runs(runs, Console(highlight=False))
    if html is not None:
        from harness.report.two_runs_page import two_runs_html

        write_whole(html, two_runs_html(runs))
    return ExitCode.CLEAN


@app.command(name="bug-report")
def bug_report(
    name: Annotated[str | None, Parameter(name="RUN")] = None,
    /,
    *,
    cell: str | None = None,
    out: Path | None = None,
) -> int:
    """Write a directory that can be attached to a vLLM issue.

    It holds ISSUE.md in the shape of vLLM's bug template, and repro.sh and repro.py, which show the bug
    again with nothing but vLLM and httpx. Secrets, host names and home folders are taken out; prompts and
    answers are not.

    Args:
        name: A run directory. Without one: the latest.
        cell: The cell to report. Default: the worst one.
        out: The directory to write. Default: one for the cell within the run.
    """
    from harness.report import bug_report as bundle

    directory = _find_run(name)
    report = judge_directory(directory).report
    reported = bundle.choose_cell(report, cell)
    written = bundle.write_bug_report(
        report,
        reported,
        run_directory=directory,
        out=out or directory / bundle.FOLDER / reported.result.cell,
        private=bundle.Private.of_this_machine(),
    )
    _print_lines([f"{written.cell}: {', '.join(written.files)}", f"bug report: {written.directory}"])
    return ExitCode.CLEAN


@app.command
def history(*, out: OutOption = REPORTS) -> int:
    """List the runs on disk, the newest last.

    Args:
        out: The folder that holds the run directories.
    """
    from harness.past_runs import past_runs, past_runs_table

    runs = past_runs(out)
    if runs:
        show_table(past_runs_table(runs), Console(highlight=False))
    else:
        _print_lines([f"no run in {out}"])
    return ExitCode.CLEAN


@app.command
def clean() -> int:
    """Remove servers that a dead harness left behind, and those that --keep-servers left running."""
    from harness.servers.select import sweep_all

    _print_lines(sweep_all() or ["nothing was left behind"])
    return ExitCode.CLEAN


@app.command
def doctor() -> int:
    """Tell what this machine can run, and what each missing thing would add."""
    from harness.servers.doctor import examine_machine

    _print_lines(
        f"{'yes' if finding.available else 'no':<4} {finding.what}: {finding.detail}"
        for finding in examine_machine()
    )
    return ExitCode.CLEAN


image = App(name="image", help="Build the CPU images of the Docker runtime.")
app.command(image)


@image.command(name="build")
def build_image(
    *,
    vllm: str,
    base: str | None = None,
    wheels: Path | None = None,
    ca: Path | None = None,
    pip_conf: Path | None = None,
    proxy: str | None = None,
) -> int:
    """Build the CPU image of a vLLM release, unless it is there and up to date.

    Args:
        vllm: The release, for example 0.10.0.
        base: The image to build on: Debian 13 or newer with Python 3.11 or 3.12.
        wheels: A folder of wheels that are preferred to the index's.
        ca: A file of certificates that the build trusts besides the public ones.
        pip_conf: A pip configuration file for the build.
        proxy: URL of an HTTP proxy for the build.
    """
    from harness.servers.images import BuildOptions, ensure_image

    default = BuildOptions.from_environment()
    options = replace(
        default,
        base=base or default.base,
        wheels=wheels or default.wheels,
        ca=ca or default.ca,
        pip_conf=pip_conf or default.pip_conf,
        proxy=proxy or default.proxy,
    )
    built = ensure_image(vllm, options=options, progress=lambda step: _print_lines([step]))
    _print_lines([f"{'built' if built.built else 'up to date'}: {built.reference} {built.id}"])
    return ExitCode.CLEAN


@app.command
def schema(what: Literal["scenario", "verdict"] = "scenario", /) -> int:
    """Print a JSON Schema.

    Args:
        what: Of scenario files, or of verdict.json.
    """
    from harness.scenario.schema import Scenario

    model = Scenario if what == "scenario" else RunResult
    _print_lines([json.dumps(model.model_json_schema(), indent=2)])
    return ExitCode.CLEAN


def _find_run(name: str | None) -> Path:
    return find_run(name, out=runs_folder(REPORTS))


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def main() -> None:
    """Run the ``sleepwake`` command."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors of ours are told in words on standard error."""
    errors = Console(stderr=True, highlight=False)
    try:
        code = app(arguments, exit_on_error=False, error_console=errors, result_action="return_value")
    except CycloptsError:
        return ExitCode.USAGE
    except SleepwakeError as error:
        errors.print(Text(f"sleepwake: {error}"), soft_wrap=True)
        if taken := variables_taken():
            errors.print(Text(f"  (options from the environment: {', '.join(taken)})"), soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception:  # noqa: BLE001 - Python's own exit code for it, 1, would read as a verdict
        traceback.print_exc()
        errors.print(
            Text("sleepwake: the above is a defect of sleepwake itself, not a verdict"), soft_wrap=True
        )
        return ExitCode.DEFECT
    return int(code or 0)
