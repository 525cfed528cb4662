"""A project of somebody's: a folder with a scenario, in which runs on fakes are started as processes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from harness.history.layout import LATEST_LINK
from harness.report.writer import VERDICT_FILE
from tests.small_scenario import SCENARIO, write_scenario
from tests.torture.on_fakes import REPOSITORY
from tests.toy_model import write_toy_model

TWO_ARMS = SCENARIO.replace(
    "arms: {only: {args: [--enable-prefix-caching]}}",
    "arms: {healthy: {args: [--enable-prefix-caching]}, "
    "stale: {args: [--enable-prefix-caching], env: {SLEEPWAKE_FAULT: keep-prefix-cache}}}",
)
VERDICTS = {"small.healthy": "clean", "small.stale": "corrupt"}
"""What a run comes to that nobody disturbs."""

DEADLINE_S = 600.0


class Project:
    """Two cells, one of them with the founding bug."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        write_scenario(folder, TWO_ARMS)
        self._model = write_toy_model(folder)
        path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'harness' / 'public'}"
        bare = {name: value for name, value in os.environ.items() if not name.startswith("SLEEPWAKE_")}
        self._environment = {**bare, "PYTHONPATH": path, "SLEEPWAKE_CACHE": str(folder / "cache")}

    @property
    def run(self) -> tuple[str, ...]:
        """The words that run everything, each cell on a server of its own."""
        return ("run", "scenarios/small.yaml", "--isolate", "--model", str(self._model))

    @property
    def latest(self) -> Path:
        """The newest run directory."""
        return self._folder / "reports" / LATEST_LINK

    @property
    def runs(self) -> set[Path]:
        """Every run directory that describes itself."""
        return {
            each.parent for each in self._folder.glob("reports/*/run.json") if not each.parent.is_symlink()
        }

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Of the newest run, by cell."""
        verdict = json.loads((self.latest / VERDICT_FILE).read_text(encoding="utf-8"))
        return {cell["cell"]: cell["verdict"] for cell in verdict["cells"]}

    @property
    def engines(self) -> list[int]:
        """The fakes that serve the model in this folder."""
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if {"tests.fake_vllm", str(self._model)} <= set(process.info["cmdline"] or ())
        ]

    def begin(
        self, *words: str, through: Sequence[str] = (), in_terminal: bool = False
    ) -> subprocess.Popen[str]:
        """Start ``sleepwake`` in a process group of its own, by itself or ``through`` another command.

        One ``in_terminal`` is begun by a program that holds the terminal, which closes when that is killed.
        """
        command = [*through, sys.executable, "-m", "tests.torture.on_fakes", *words]
        return subprocess.Popen(
            ["script", "-qec", shlex.join(command), "/dev/null"] if in_terminal else command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def await_end(self) -> bool:
        """Wait until no ``sleepwake`` is at work in this folder any more; return whether none is."""
        at_work = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "tests.torture.on_fakes" in (process.info["cmdline"] or ())
            and _works_in(process, self._folder)
        ]
        return not psutil.wait_procs(at_work, timeout=DEADLINE_S)[1]

    def undisturbed(self) -> None:
        """Run everything.

        Raises:
            RuntimeError: the planted fault was not found, so that nothing could be told apart.
        """
        said = end(self.begin(*self.run))
        if self.verdicts != VERDICTS:
            raise RuntimeError(f"an undisturbed run ended with {self.verdicts}:\n{said}")


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == str(folder.resolve())
    except psutil.Error:
        return False


def end(run: subprocess.Popen[str]) -> str:
    """Wait until it ends; return what it said."""
    with run:
        try:
            return run.communicate(timeout=DEADLINE_S)[0]
        except subprocess.TimeoutExpired:
            run.kill()
            return f"{run.communicate()[0]}\nit did not end within {DEADLINE_S:.0f} s"
