"""Interrupts runs at random moments, and lets the next start finish them.

Whatever the signal: each history is readable up to its last event, no cell that did not end is clean, and
``--resume`` comes to the verdicts of a run that nobody disturbed and leaves no server behind.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.check import judge
from harness.check.result import Verdict
from harness.errors import ExitCode, HistoryError
from harness.history.layout import CELLS_FOLDER, HISTORY_FILE
from harness.history.recording import load_recording
from tests.torture.part import Budget, Outcome
from tests.torture.project import VERDICTS, Project, end

CLOSED = "terminal closed"
WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", CLOSED, "stopped for a moment")
STOPPED_S = 1.0


def torture(budget: Budget) -> Outcome:
    """Disturb runs until the budget is spent."""
    draw = random.Random(budget.seed)  # noqa: S311 - no secret
    project = Project(budget.folder)
    began = time.monotonic()
    project.undisturbed()
    undisturbed_s = time.monotonic() - began
    bad: list[str] = []
    cut: Counter[str] = Counter()
    tried = 0
    while tried < budget.trials and time.monotonic() - began < budget.seconds:
        way = WAYS[tried % len(WAYS)]
        moment = draw.uniform(0, undisturbed_s)
        tried += 1
        bad += (f"{way} after {moment:.1f} s: {each}" for each in disturbed(project, way, moment, cut))
    told = ", ".join(f"{times} {what}" for what, times in sorted(cut.items()))
    return Outcome(tried=tried, bad=tuple(bad), told=told)


def disturbed(project: Project, way: str, moment: float, cut: Counter[str]) -> Iterator[str]:
    """Disturb a run after ``moment`` seconds, and finish it; yield what is wrong, and count in ``cut``."""
    before = project.runs
    run = project.begin(*project.run, in_terminal=way == CLOSED)
    time.sleep(moment)
    _disturb(run, way)
    said = end(run)
    if not project.await_end():
        yield f"it goes on:\n{said}"
    begun = project.runs - before
    ended = run.returncode in {ExitCode.CLEAN, ExitCode.CORRUPT_OR_DEGRADED}
    cut["ended all the same" if ended else "cut short" if begun else "cut before anything began"] += 1
    for folder in begun:
        yield from unreadable(folder)
    words = ("run", "--resume", "latest") if begun else project.run
    again = project.begin(*words)
    said = f"{said}\n--- {' '.join(words)}\n{end(again)}"
    if again.returncode != ExitCode.CORRUPT_OR_DEGRADED:
        yield f"the next start ended with {again.returncode}:\n{said}"
    elif (verdicts := project.verdicts) != VERDICTS:
        yield f"it came to {verdicts}:\n{said}"
    if left := project.engines:
        yield f"the next start left {left}:\n{said}"


def _disturb(run: subprocess.Popen[str], way: str) -> None:
    if way == CLOSED:
        run.kill()  # who holds the terminal: those who are in it are told so
        return
    if way in signal.Signals.__members__:
        run.send_signal(signal.Signals[way])
        return
    run.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    run.send_signal(signal.SIGCONT)


def unreadable(run: Path) -> Iterator[str]:
    """Yield what of a run directory cannot be read, or is believed although it did not end."""
    for history in sorted(run.glob(f"{CELLS_FOLDER}/*/{HISTORY_FILE}")):
        if b"\n" not in history.read_bytes():
            continue  # it was cut short within its first event
        try:
            recording = load_recording(history.parent)
        except HistoryError as error:
            yield f"{history.parent.name} is unreadable: {error}"
            continue
        if not recording.finished and judge(recording).verdict is Verdict.CLEAN:
            yield f"{history.parent.name} did not end and is clean"
