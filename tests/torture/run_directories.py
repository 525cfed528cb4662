"""Reads damaged run directories: each command ends with a verdict, or says in words what is wrong with them.

``python -m tests.torture.run_directories --seconds 600`` draws as many as fit, and keeps each for which a
command failed otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import psutil

from harness.cli import call
from harness.errors import ExitCode
from tests.torture.damaging import damaged

STORED = Path(__file__).parents[1] / "data" / "runs" / "format-1"
RUNS = ("clean", "corrupt", "interrupted")
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


@dataclass
class Tally:
    """What came of the run directories that were tried."""

    codes: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    bad: list[str] = field(default_factory=list)
    """Of each command that did not end as it should: what was damaged, and what it said."""

    def row(self, seconds: float) -> str:
        """One line of the table."""
        ends = ", ".join(f"{times} ended with {code}" for code, times in sorted(self.codes.items()))
        return (
            f"run directories: {self.codes.total()} tried ({ends}), {len(self.bad)} bad, {seconds:.0f} s; "
            f"slowest command {self.slowest_s:.2f} s"
        )


def try_one(chance: random.Random, folder: Path, tally: Tally) -> None:
    """Damage a copy of a stored run in ``folder`` and let one command read it."""
    for name in ("damaged", "merged", "bug"):
        shutil.rmtree(folder / name, ignore_errors=True)
    shutil.copytree(STORED / chance.choice(RUNS), folder / "damaged")
    for name, stored in (("sound", "clean"), ("shard", "corrupt")):
        if not (folder / name).is_dir():
            shutil.copytree(STORED / stored, folder / name)
    what = damaged(chance, folder / "damaged", others=[STORED / name for name in RUNS])
    command = chance.choice(tuple(COMMANDS.values()))
    said, began = StringIO(), time.process_time()
    with redirect_stdout(said), redirect_stderr(said):
        code = call(list(command))
    spent = time.process_time() - began
    tally.codes[code] += 1
    tally.slowest_s = max(tally.slowest_s, spent)
    if code not in IN_WORDS or spent > MOST_SECONDS or "Traceback" in said.getvalue():
        tally.bad.append(
            f"{what}\n{' '.join(command)} ended with {code} after {spent:.1f} s\n{said.getvalue()}"
        )


def main() -> int:
    """Try run directories until the time is over; end with 1 if one was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("reports/torture-runs"))
    asked = parser.parse_args()
    chance, tally, began = random.Random(asked.seed), Tally(), time.monotonic()  # noqa: S311 - no secret
    keep = asked.keep.absolute()
    with TemporaryDirectory(prefix="sleepwake-runs-") as folder, reading_in(Path(folder)):
        while time.monotonic() - began < asked.seconds:
            known = len(tally.bad)
            try_one(chance, Path(folder), tally)
            for what in tally.bad[known:]:
                kept = keep / f"bad-{asked.seed}-{tally.codes.total()}"
                shutil.copytree(Path(folder) / "damaged", kept, symlinks=True, dirs_exist_ok=True)
                sys.stdout.write(f"{kept}: {what}\n")
    sys.stdout.write(tally.row(time.monotonic() - began) + "\n")
    return 1 if tally.bad else 0


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


if __name__ == "__main__":
    sys.exit(main())
