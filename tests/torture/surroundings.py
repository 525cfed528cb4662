"""Runs where something of the machine is missing, full, closed or forbidden.

Each is started by a shell that takes it away.  A run then ends with a verdict, or says in words what it
lacks; what it recorded is readable, and no server is left.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ExitCode
from tests.torture.kills import unreadable
from tests.torture.part import Budget, Outcome
from tests.torture.project import Project, end

FOUND = frozenset({ExitCode.CORRUPT_OR_DEGRADED})
"""The run comes to its verdict: one of its cells has the founding bug."""

REFUSED = frozenset({ExitCode.USAGE, ExitCode.INFRASTRUCTURE})
EITHER = FOUND | REFUSED


@dataclass(frozen=True, kw_only=True)
class Surrounding:
    """What is different.

    Attributes:
        name: In words.
        script: What a shell does with the command ``"$@"``.
        codes: How it may end.
        as_root: Whether only root can arrange it.
    """

    name: str
    script: str
    codes: frozenset[ExitCode] = FOUND
    as_root: bool = False


def _mounted(folder: str, options: str) -> str:
    """A small file system of its own at ``folder``."""
    mount = f"mkdir -p {folder} && mount -t tmpfs -o {options} none {folder}"
    return f'exec unshare --mount sh -c \'{mount} && exec "$@"\' sh "$@"'


SURROUNDINGS: Sequence[Surrounding] = (
    Surrounding(name="no HOME, no TERM", script='exec env -u HOME -u TERM "$@"'),
    Surrounding(name="an empty PATH", script='exec env PATH= "$@"'),
    Surrounding(
        name="LANG=C without UTF-8",
        script='exec env LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 "$@"',
    ),
    Surrounding(name="standard output closed", script='exec "$@" >&-'),
    Surrounding(name="all standard streams closed", script='exec "$@" >&- 2>&- <&-'),
    Surrounding(name="standard output full", script='exec "$@" >/dev/full'),
    Surrounding(name="standard error full", script='exec "$@" 2>/dev/full'),
    Surrounding(name="40 file descriptors", script='ulimit -n 40; exec "$@"', codes=EITHER),
    Surrounding(name="12 file descriptors", script='ulimit -n 12; exec "$@"', codes=EITHER),
    Surrounding(name="files of at most 20 KiB", script='ulimit -f 20; exec "$@"', codes=EITHER),
    Surrounding(name="600 MiB of address space", script='ulimit -v 614400; exec "$@"', codes=EITHER),
    Surrounding(name="umask 777", script='umask 777; exec "$@"', codes=EITHER),
    *(
        Surrounding(
            name=f"{size} KiB of disk for {what}",
            script=_mounted(folder, f"size={size}k"),
            codes=EITHER,
            as_root=True,
        )
        for folder, what in (("reports", "runs"), ("cache", "the cache"))
        for size in (4, 8, 16, 24, 32, 48, 64, 96, 128)
    ),
    *(
        Surrounding(
            name=f"{what} may not be written", script=_mounted(folder, "ro"), codes=REFUSED, as_root=True
        )
        for folder, what in (("reports", "runs"), ("cache", "the cache"))
    ),
    Surrounding(
        name="no disk for temporary files",
        script=f"export TMPDIR=$PWD/temporary; {_mounted('temporary', 'size=4k')}",
        codes=EITHER,
        as_root=True,
    ),
    Surrounding(
        name="no network but loopback",
        script='exec unshare --net sh -c \'ip link set lo up && exec "$@"\' sh "$@"',
        as_root=True,
    ),
)


def torture(budget: Budget) -> Outcome:
    """Try surroundings in an order that is drawn, until the budget is spent."""
    possible = [each for each in SURROUNDINGS if os.geteuid() == 0 or not each.as_root]
    chosen = random.Random(budget.seed).sample(possible, k=min(budget.trials, len(possible)))  # noqa: S311 - no secret
    began, bad, tried = time.monotonic(), list[str](), 0
    for number, surrounding in enumerate(chosen):
        if time.monotonic() - began > budget.seconds:
            break
        tried += 1
        bad += (f"{surrounding.name}: {each}" for each in wrong(surrounding, budget.folder / str(number)))
    return Outcome(tried=tried, bad=tuple(bad), told=f"of {len(SURROUNDINGS)} kinds")


def wrong(surrounding: Surrounding, folder: Path) -> Iterator[str]:
    """Run there; yield what is wrong."""
    project = Project(folder)
    run = project.begin(*project.run, through=("sh", "-c", surrounding.script, "sh"))
    said = end(run)
    if run.returncode not in surrounding.codes:
        yield f"it ended with {run.returncode}:\n{said}"
    elif "Traceback" in said:
        yield f"it ended with a traceback:\n{said}"
    for directory in project.runs:
        yield from unreadable(directory)
    if left := project.engines:
        yield f"it left {left}"
