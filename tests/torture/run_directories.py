"""Reads damaged run directories: each command ends with a verdict, or says in words what is wrong with them.

What carries digests is never judged once it was changed: evidence that was altered is refused.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import psutil

from harness.cli import call
from harness.errors import ExitCode
from harness.history.layout import HISTORY_FILE, RUN_FILE
from tests.torture.damaging import damaged
from tests.torture.part import Budget, Outcome
from tests.torture.project import Project

STORED = Path(__file__).parents[1] / "data" / "runs" / "format-1"
OLD = tuple(STORED / name for name in ("clean", "corrupt", "interrupted"))
"""Runs without digests."""

MOST_BYTES = 2**30
"""Of memory, beyond what there is before the first command."""

MOST_SECONDS = 5.0
"""Of the processor, for one command."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "check": ("check", "damaged"),
    "report": ("report", "damaged"),
    "compare": ("compare", "damaged", "sound", "--html", "both.html"),
    "merge": ("merge", "damaged", "shard", "--out", "merged"),
    "history": ("history", "--out", "."),
    "bug-report": ("bug-report", "damaged", "--out", "bug"),
    "resume": ("run", "--resume", "damaged", "--list"),
}
IN_WORDS = frozenset(ExitCode) - {ExitCode.DEFECT, ExitCode.INTERRUPTED}
JUDGED = frozenset({ExitCode.CLEAN, ExitCode.CORRUPT_OR_DEGRADED, ExitCode.INCONCLUSIVE})
JUDGING = ("check", "report", "compare", "merge", "bug-report")
"""The commands whose end says what the run is worth; others list it, or begin anew what is missing."""


@dataclass
class Tally:
    """What came of the run directories that were tried."""

    codes: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    bad: list[str] = field(default_factory=list)
    """Of each command that did not end as it should: what was damaged, and what it said."""

    @property
    def told(self) -> str:
        """How the commands ended."""
        ends = ", ".join(f"{times} ended with {code}" for code, times in sorted(self.codes.items()))
        return f"{ends}; slowest command {self.slowest_s:.2f} s"


def try_one(chance: random.Random, folder: Path, tally: Tally, *, runs: Sequence[Path] = OLD) -> None:
    """Damage a copy of one of ``runs`` in ``folder`` and let one command read it."""
    for name in ("damaged", "merged", "bug"):
        shutil.rmtree(folder / name, ignore_errors=True)
    chosen = chance.choice(runs)
    shutil.copytree(chosen, folder / "damaged")
    for name, stored in (("sound", "clean"), ("shard", "corrupt")):
        if not (folder / name).is_dir():
            shutil.copytree(STORED / stored, folder / name)
    what = damaged(chance, folder / "damaged", others=runs)
    name = chance.choice(tuple(COMMANDS))
    said, began = StringIO(), time.process_time()
    with redirect_stdout(said), redirect_stderr(said):
        code = call(list(COMMANDS[name]))
    spent = time.process_time() - began
    tally.codes[code] += 1
    tally.slowest_s = max(tally.slowest_s, spent)
    believed = chosen not in OLD and (
        (code in JUDGED and name in JUDGING and is_altered(chosen, folder / "damaged"))
        or (code == ExitCode.CLEAN and name == "check" and is_missing(chosen, folder / "damaged"))
    )
    if code not in IN_WORDS or believed or spent > MOST_SECONDS or "Traceback" in said.getvalue():
        told = f"{' '.join(COMMANDS[name])} ended with {code} after {spent:.1f} s"
        tally.bad.append(f"{what}\n{told}\n{said.getvalue()}")


def is_altered(run: Path, damaged: Path) -> bool:
    """Whether evidence that is there is not what was written; ``run.json`` may be laid out anew."""
    return _json(run / RUN_FILE) != _json(damaged / RUN_FILE) or any(
        (damaged / path).is_file() and (damaged / path).read_bytes() != (run / path).read_bytes()
        for path in _histories(run)
    )


def is_missing(run: Path, damaged: Path) -> bool:
    """Whether a history is not there any more, which is said and leaves its cell without a verdict."""
    return not all((damaged / path).is_file() for path in _histories(run))


def _histories(run: Path) -> list[Path]:
    return [path.relative_to(run) for path in run.rglob(HISTORY_FILE)]


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def torture(budget: Budget) -> Outcome:
    """Damage runs until the budget is spent; keep each for which a command did not end as it must."""
    chance, tally, began = random.Random(budget.seed), Tally(), time.monotonic()  # noqa: S311 - no secret
    keep = budget.keep.absolute()
    project = Project(budget.folder / "project")
    project.undisturbed()
    runs = (*OLD, project.latest.resolve())
    with reading_in(budget.folder):
        while tally.codes.total() < budget.trials and time.monotonic() - began < budget.seconds:
            known = len(tally.bad)
            try_one(chance, budget.folder, tally, runs=runs)
            if tally.bad[known:]:
                kept = keep / f"bad-{budget.seed}-{tally.codes.total()}"
                shutil.copytree(budget.folder / "damaged", kept, symlinks=True, dirs_exist_ok=True)
    return Outcome(tried=tally.codes.total(), bad=tuple(tally.bad), told=tally.told)


@contextmanager
def reading_in(folder: Path) -> Iterator[None]:
    """Work in ``folder``, in a bare environment; draw nothing, which takes longer than all the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MOST_BYTES, hard))
    bare = {name: value for name, value in os.environ.items() if not name.startswith("SLEEPWAKE_")}
    undrawn = patch("vl_convert.vegalite_to_svg", lambda _: '<svg viewBox="0 0 1 1"></svg>')
    with chdir(folder), patch.dict(os.environ, bare, clear=True), undrawn:
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
