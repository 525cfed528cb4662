"""The commands that start servers: run scenarios, search over releases, prove that faults are seen.

What starts servers is imported inside each, so that the other commands do not pay for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from harness.cli.help import RESULT, WHAT
from harness.cli.option_sources import given_options
from harness.cli.options import OptionsOfRun
from harness.cli.shared import (
    ArmsOption,
    ModelOption,
    OutOption,
    RuntimeOption,
    VllmArgsOption,
    new_console,
    print_lines,
)
from harness.errors import ExitCode
from harness.extras import require
from harness.runs.finding import REPORTS
from harness.runs.options import RunOptions

_NEEDED = {
    "gpu": "  (needs a GPU)",
    "pictures": "  (needs a model that reads pictures)",
    "fault": "  (needs a planted fault)",
}
"""What stands in the list behind a cell, by what its scenario requires."""

if TYPE_CHECKING:
    from rich.console import Console

    from harness.runs.resuming import Resumption
    from harness.scenario.cells import Cell
    from harness.servers.select import Choice


def run(
    *paths: Path,
    options: Annotated[OptionsOfRun, Parameter(name="*")] = OptionsOfRun(),  # noqa: B008 - it is frozen
    list_cells: Annotated[bool, Parameter(name="--list", negative=(), group=RESULT)] = False,
    dry_run: Annotated[bool, Parameter(negative=(), group=RESULT)] = False,
    resume: Annotated[str | None, Parameter(name="--resume", show_default=False, group=WHAT)] = None,
) -> int:
    """Run scenarios and judge what wakes up.

    The command line takes precedence over the environment, and the environment over defaults.

    Args:
        paths: Scenario files, or folders of them. Without one: the default scenarios.
        options: What is asked for.
        list_cells: Print the cells that would run, and stop.
        dry_run: Print the exact command of every cell's server, and stop.
        resume: Continue a run that was interrupted or met errors, under its own options; the environment
            is not read again. Cells that have a verdict are kept.
    """
    require("run", for_what="running scenarios")
    from harness import workflow
    from harness.cli.concluding import conclude
    from harness.fitting import fit
    from harness.report.text import count
    from harness.runs.resuming import resume as take_up

    asked = options.of(paths)
    resumed = take_up(resume, asked.without_environment()) if resume is not None else None
    asked = resumed.options if resumed else asked
    cells = list(resumed.cells) if resumed else workflow.load(asked)
    if list_cells:
        workflow.refuse(asked, cells)
        print_lines(cell.id + _NEEDED.get(cell.scenario.requires or "", "") for cell in cells)
        return ExitCode.CLEAN
    if resumed and not cells:
        print_lines([f"nothing to run: {count(len(resumed.kept), 'cell')} with a verdict"])
        return conclude(resumed.directory, new_console())
    choice = workflow.choose(asked)
    cells, left_out = fit(cells, choice.runtime, asked)
    if left_out:
        print_lines([f"# {left_out}" if dry_run else left_out])
    if dry_run:
        print_lines(f"# {cell}\n{command}" for cell, command in workflow.commands(asked, cells, choice))
        return ExitCode.CLEAN
    return _run(asked, cells, choice, resumed=resumed)


def _run(options: RunOptions, cells: list[Cell], choice: Choice, *, resumed: Resumption | None) -> int:
    from harness.report.tables import print_line
    from harness.report.text import count

    console = new_console()
    print_line(console, f"runtime: {choice.runtime.name} ({choice.reason})")
    if resumed and resumed.kept:
        print_line(console, f"kept: {count(len(resumed.kept), 'cell')} with a verdict")
    resume_in = resumed.directory if resumed else None
    try:
        code = _run_to_the_end(options, cells, choice, console=console, resume_in=resume_in)
    finally:
        # Last, whatever happened before: a server that could not be given back has to be mended by hand.
        complaints = list(_complaints(options.endpoint))
        for complaint in complaints:
            print_line(console, complaint, style="bold red")
    return ExitCode.INFRASTRUCTURE if complaints and code == ExitCode.CLEAN else code


def _complaints(endpoint: str | None) -> Iterator[str]:
    from harness.drive.guest.giving_back import complaints
    from harness.drive.guest.owed import Ledger
    from harness.servers.attached import base_url_of

    if endpoint is not None:
        yield from complaints(Ledger(), base_url_of(endpoint))


def _run_to_the_end(
    options: RunOptions, cells: list[Cell], choice: Choice, *, console: Console, resume_in: Path | None
) -> int:
    from harness import workflow
    from harness.cli.concluding import conclude
    from harness.report.progress import Progress
    from harness.report.tables import print_line

    with Progress(console, cells=len(cells)) as progress:
        finished = workflow.run(options, cells, choice, progress=progress, resume_in=resume_in)
    if not finished.whole:
        print_line(console, f"interrupted; `sleepwake run --resume {finished.directory}` carries on")
        if options.endpoint is not None and not list(_complaints(options.endpoint)):
            print_line(console, f"{options.endpoint} is as it was found")
    for kept in choice.runtime.kept:
        sentence = f"{kept.cell} still answers at {kept.base_url}; `{kept.stop}` or `sleepwake clean` ends it"
        print_line(console, sentence)
    console.print()
    code = conclude(finished.directory, console)
    return code if finished.whole else ExitCode.INTERRUPTED


def bisect(
    *paths: Path,
    good: str,
    bad: str,
    versions: Annotated[tuple[str, ...], Parameter(name="--version")] = (),
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
    require("run", for_what="a search")
    from harness.explore.bisect import run as search
    from harness.explore.bisect.search import conclusion, table
    from harness.report.progress import Progress
    from harness.report.tables import print_line, show_table
    from harness.servers.docker.images import supported_versions

    options = RunOptions(
        paths=paths,
        arms=arms,
        runtime=runtime,
        model=model,
        vllm_args=vllm_args,
        out=out,
        sources=given_options(),
    )
    file = out / f"bisect-{'-'.join(path.stem for path in paths)}-{good}-{bad}.json"
    console = new_console()
    begun = search.begin(
        options, good=good, bad=bad, versions=versions or supported_versions(), resume_from=file
    )
    ended = search.carry_on(
        begun,
        options,
        remember_in=file,
        progress=lambda cells: Progress(console, cells=cells),
        tell=lambda sentence: print_line(console, sentence),
    )
    show_table(table(ended), console)
    print_line(console, conclusion(ended), style="bold")
    for version in ended.neighbours:
        print_line(console, f"reproduce: {search.command(options, version)}")
    return ExitCode.INCONCLUSIVE if ended.contradiction else ExitCode.CLEAN


def fuzz(
    *,
    budget: str | None = None,
    examples: int | None = None,
    seed: int | None = None,
    safe: Annotated[bool, Parameter(negative=())] = False,
    one_at_a_time: Annotated[bool, Parameter(negative=())] = False,
    known: Path | None = None,
    runtime: RuntimeOption = "auto",
    model: ModelOption = None,
    vllm_args: VllmArgsOption = (),
    out: OutOption = REPORTS,
) -> int:
    """Search for sequences of legal lifecycle calls after which the engine answers wrongly, hangs or dies.

    Each finding is made as short as possible, tried on three fresh engines, and written as a scenario and
    as repro.sh. Ends with 0 if nothing new was found, else 1.

    Args:
        budget: How long to search, for example 20m, not counting the time to confirm findings. Default: 10m,
            unless --examples is given.
        examples: How many sequences to carry out at most.
        seed: Draw the same sequences again. Default: a new seed, which is printed.
        safe: Use only what vLLM documents as safe; nothing should be found.
        one_at_a_time: Make every call after the one before it was answered. Without it calls overlap as well,
            or are given up by their clients.
        known: The file of findings that are known already. Default: known-findings.json beside the runs.
        runtime: How servers are started.
        model: A Hugging Face id or a model folder.
        vllm_args: One more vLLM flag, for example --vllm-arg=--block-size=64.
        out: The folder that holds the run directories.
    """
    require("run", for_what="a search")
    require("fuzz", for_what="a search")
    from harness import workflow
    from harness.explore.fuzz.confirming import FuzzOptions
    from harness.explore.fuzz.moves import LEGAL_MOVES, OVERLAPPING_MOVES, SAFE_MOVES
    from harness.explore.fuzz.run import Fuzz, conclusion, seconds_in, table
    from harness.report.tables import print_line, show_table

    if budget is None and examples is None:
        budget = "10m"
    choice = workflow.choose(RunOptions(runtime=runtime))
    console = new_console()
    chosen_seed = secrets.randbelow(10**6) if seed is None else seed
    print_line(console, f"runtime: {choice.runtime.name} ({choice.reason}); seed {chosen_seed}")
    search = Fuzz(
        options=FuzzOptions(
            choice=choice,
            out=out,
            budget_s=seconds_in(budget) if budget else None,
            examples=examples,
            seed=chosen_seed,
            moves=SAFE_MOVES if safe else LEGAL_MOVES if one_at_a_time else OVERLAPPING_MOVES,
            known=known,
            model=model,
            vllm_args=vllm_args,
            sources=given_options(),
        ),
        tell=lambda sentence: print_line(console, sentence),
    )
    try:
        search.run()
    finally:
        if search.found:
            show_table(table(search), console)
        print_line(console, conclusion(search), style="bold")
        print_line(console, f"recorded in {search.directory}")
    return ExitCode.CORRUPT_OR_DEGRADED if search.shown else ExitCode.CLEAN


def selftest(
    *,
    fault: tuple[str, ...] = (),
    list_faults: Annotated[bool, Parameter(name="--list", negative=())] = False,
    runtime: RuntimeOption = "auto",
    vllm_args: VllmArgsOption = (),
    out: OutOption = REPORTS,
) -> int:
    """Plant every known corruption in a real engine, and show whether each is found, with the right cause.

    Ends with 0 if all are noticed and the healthy engines are clean, 3 if some are in doubt, else 1.

    Args:
        fault: Plant only this one. Can be given several times.
        list_faults: Print what would be planted, with its cause, and stop.
        runtime: How servers are started.
        vllm_args: One more vLLM flag, for example --vllm-arg=--dtype=bfloat16.
        out: The folder that holds the run directories.
    """
    require("run", for_what="the selftest")
    from harness import workflow
    from harness.explore.selftest.run import Selftest, conclusion, faults_named, table
    from harness.report.progress import Progress
    from harness.report.tables import print_line, show_table

    faults = faults_named(fault)
    if list_faults:
        print_lines(f"{each.name}: {each.cause}. {each.summary}" for each in faults)
        return ExitCode.CLEAN
    choice = workflow.choose(RunOptions(runtime=runtime))
    console = new_console()
    print_line(console, f"runtime: {choice.runtime.name} ({choice.reason})")
    planned = Selftest(faults=faults, choice=choice, out=out, vllm_args=vllm_args, sources=given_options())
    directory, outcomes = planned.run(progress=lambda cells: Progress(console, cells=cells))
    show_table(table(outcomes), console)
    print_line(console, conclusion(outcomes), style="bold")
    print_line(console, f"recorded in {directory}")
    if any(each.result is None or each.result.error for each in outcomes):
        return ExitCode.INFRASTRUCTURE
    if any(not (each.as_expected or each.in_doubt) for each in outcomes):
        return ExitCode.CORRUPT_OR_DEGRADED
    return ExitCode.CLEAN if all(each.as_expected for each in outcomes) else ExitCode.INCONCLUSIVE
