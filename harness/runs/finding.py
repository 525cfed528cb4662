"""Where runs are: making the directory of a new one, finding that of an old one."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from harness.errors import HistoryError, UsageError, did_you_mean
from harness.history.layout import LATEST_LINK, PINNED_LINK, RUN_FILE

REPORTS = Path("reports")
"""Where runs are written unless told otherwise."""
NAMED_AFTER = "%Y-%m-%dT%H-%M-%S"
"""How a run directory is named: after the local time at which it was made."""


def find_run(name: str | None, *, out: Path = REPORTS) -> Path:
    """The run directory a user means: a path, a name under ``out``, or without a name the latest.

    Raises:
        HistoryError: there is no such run.
    """
    candidates = [out / LATEST_LINK] if name is None else [Path(name), out / name]
    for candidate in candidates:
        if (candidate / RUN_FILE).is_file():
            return candidate.resolve()
    raise HistoryError("no run here", path=candidates[0], remedy=_which_run(name, out))


def _which_run(name: str | None, out: Path) -> str:
    """What to name instead: the run with the nearest name, else any."""
    runs = [path.parent.name for path in out.glob(f"*/{RUN_FILE}")]
    otherwise = "name a run directory, for example reports/latest"
    return did_you_mean(Path(name or "").name, runs, otherwise=otherwise)


def new_run_directory(parent: Path, *, now: datetime | None = None) -> Path:
    """Create a directory named after the time, and point ``latest`` at it.

    Raises:
        UsageError: ``parent`` cannot be written.
    """
    moment = now or datetime.now().astimezone()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        directory = _first_free(parent, moment.strftime(NAMED_AFTER))
        _point_at(directory, link=parent / LATEST_LINK)
    except OSError as error:
        raise UsageError(
            f"--out: cannot write to {parent}: {error.strerror}", remedy="choose another place with --out"
        ) from error
    return directory


def _first_free(parent: Path, stem: str) -> Path:
    """Two runs may start in the same second: the later ones are numbered."""
    number = 1
    while True:
        directory = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            # Prompts and answers are in it: whether anybody else may read them is for its owner to say.
            directory.mkdir(mode=0o700)
        except FileExistsError:
            number += 1
        else:
            return directory


def pin_run(directory: Path, *, out: Path) -> Path:
    """Let ``pinned`` name the run from now on, in every place where a run is named; return the link.

    Raises:
        UsageError: ``out`` cannot be written.
    """
    link = out / PINNED_LINK
    try:
        out.mkdir(parents=True, exist_ok=True)
        _point_at(directory, link=link)
    except OSError as error:
        raise UsageError(
            f"cannot write to {out}: {error.strerror}", remedy="choose another SLEEPWAKE_OUT"
        ) from error
    return link


def _point_at(directory: Path, *, link: Path) -> None:
    beside = directory.resolve().parent == link.parent.resolve()
    temporary = link.parent / f".{link.name}-{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(directory.name if beside else directory.resolve(), target_is_directory=True)
    temporary.replace(link)
