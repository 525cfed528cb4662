"""What the public package ``sleepwake`` offers to a program: run scenarios, judge a run, get objects back."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from harness.extras import require
from harness.runs.finding import find_run
from harness.runs.judging import JudgedRun, judge_directory
from harness.runs.options import RunOptions


def run(
    *scenarios: str | Path,
    runtime: str = "auto",
    vllm: str | None = None,
    image: str | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    prompts: str | Path | None = None,
    fault: str | None = None,
    arms: tuple[str, ...] = (),
    expression: str | None = None,
    vllm_args: tuple[str, ...] = (),
    thorough: bool = False,
    isolate: bool = False,
    out: str | Path = "reports",
    quiet: bool = True,
) -> JudgedRun:
    """Run scenarios, judge what wakes up, and write the reports, as ``sleepwake run`` does.

    The environment gives no options here: what is to be run is said by the arguments alone.

    Args:
        scenarios: Files, folders of them, or names of scenarios that ship. Without one: the default ones.
        runtime: How servers are started: auto, docker, process, inprocess or attached.
        vllm: The vLLM release to test.
        image: The container image to test.
        endpoint: URL of a server that is already running.
        model: A Hugging Face id or a model folder.
        prompts: A JSONL file of prompts or chats that every scenario asks instead of its own.
        fault: Plant a corruption on purpose: a name, or ``FILE.py:function``.
        arms: Run only these arms.
        expression: Run only cells whose name matches, for example ``"level1 and not off"``.
        vllm_args: One more vLLM flag for every arm, each as one word.
        thorough: Leave nothing out.
        isolate: Give every cell a server of its own.
        out: The folder that holds the run directories.
        quiet: Whether nothing is printed while the run goes on.

    Returns:
        The run: its directory, and its result with a verdict for every cell.

    Raises:
        UsageError: an argument or a file is wrong; nothing has been started.
        InfrastructureError: the machine cannot run what was asked for.
        InterruptedRunError: the run was interrupted.
    """
    require("run", for_what="running scenarios")
    from rich.console import Console

    from harness import workflow
    from harness.errors import InterruptedRunError
    from harness.report import write_report
    from harness.report.progress import Progress

    options = RunOptions(
        paths=tuple(map(Path, scenarios)),
        runtime=runtime,
        vllm=vllm,
        image=image,
        endpoint=endpoint,
        model=model,
        prompts=None if prompts is None else Path(prompts),
        fault=fault,
        arms=arms,
        expression=expression,
        vllm_args=vllm_args,
        thorough=thorough,
        isolate=isolate,
        out=Path(out),
    )
    console = Console(file=StringIO() if quiet else None, highlight=False)
    finished = workflow.run_asked(options, progress=lambda cells: Progress(console, cells=cells))
    judged = judge_directory(finished.directory)
    write_report(finished.directory, judged.report)
    if not finished.whole:
        raise InterruptedRunError(
            "the run was interrupted", remedy=f"`sleepwake run --resume {finished.directory}` carries on"
        )
    return judged


def check(run: str | Path, *, out: str | Path = "reports") -> JudgedRun:
    """Judge a stored run again: a pure function of what was recorded; nothing is written.

    Args:
        run: A run directory, or the name of one in ``out``.
        out: The folder that holds the run directories.

    Raises:
        HistoryError: there is no such run, or it cannot be understood.
    """
    return judge_directory(find_run(str(run), out=Path(out)))
