"""``python -m tests.torture.behind_nginx``: run, watch and bug-report through nginx; who gets to see the key?

nginx wants TLS, a key and a path prefix.  The server behind it is a fake, or the one at ``--endpoint``.  Ends
with 1 if a command failed, or if the key is in a file, in what was said, in the list of processes, or was
shown at an address that nginx only redirects to.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from harness.errors import ExitCode
from harness.history.run_description import read_description
from tests.drive.guest.gateway import KEY, Gateway, gateway
from tests.fake_vllm.threads import Served
from tests.small_scenario import REAL_PROMPTS, write_scenario

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 1800.0


@dataclass(kw_only=True, eq=False)
class Trial:
    """Commands that are given the key, and where it turned up."""

    folder: Path
    behind: str
    nginx: Gateway
    said: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def command(self, *words: str, expected: ExitCode, with_key: bool = True) -> None:
        """Carry out one command of sleepwake, with an eye on the list of processes."""
        with self._started(*words, with_key=with_key) as process:
            while process.poll() is None:
                self.look_at_processes()
                time.sleep(0.2)
        self.conclude(words, process, expected=expected)

    @contextmanager
    def _started(self, *words: str, with_key: bool) -> Iterator[subprocess.Popen[str]]:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'harness' / 'public'}",
            "SLEEPWAKE_CACHE": str(self.folder / "cache"),
            **({"SLEEPWAKE_API_KEY": KEY} if with_key else {}),
        }
        with (self.folder / "said.txt").open("a+", encoding="utf-8") as said:
            yield subprocess.Popen(
                [sys.executable, "-m", "sleepwake", *words],
                cwd=self.folder,
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def conclude(self, words: tuple[str, ...], process: subprocess.Popen[str], *, expected: ExitCode) -> None:
        """Note how a command ended."""
        code = process.wait(DEADLINE_S)
        self.said.append(f"{words[0]}: exit code {code}, expected {expected.value}")
        if words[0] != "bug-report" and code != ExitCode.INFRASTRUCTURE:
            self.said += self._judgement()
        if code != expected:
            self.leaks.append(f"{' '.join(words[:1])} ended with {code}")

    def _judgement(self) -> Iterator[str]:
        """What the newest run found, and why."""
        judged = json.loads((self.folder / "reports" / "latest" / "verdict.json").read_text("utf-8"))
        for cell in judged["cells"]:
            yield f"  {cell['cell']}: {cell['verdict']}: {cell['reason']}"
            if cell["findings"]:
                found = cell["findings"][0]["message"]
                yield f"    the first of {len(cell['findings'])} findings: {found}"

    def watched(self, *words: str) -> None:
        """Watch until somebody else has woken the server from level 2, and left its weights out."""
        with self._started(*words, with_key=True) as process:
            cycled = threading.Event()
            cycle = threading.Thread(target=self._cycle, args=(process, cycled))
            cycle.start()
            while process.poll() is None:
                self.look_at_processes()
                time.sleep(0.2)
            cycle.join()
        self.conclude(words, process, expected=ExitCode.CORRUPT_OR_DEGRADED)

    def _cycle(self, process: subprocess.Popen[str], cycled: threading.Event) -> None:
        while process.poll() is None and not cycled.is_set():
            latest = self.folder / "reports" / "latest"
            watched = read_description(latest).watched if latest.exists() else None
            if watched is not None and watched.baselines:
                time.sleep(3)
                self._post("/sleep?level=2")
                self._post("/wake_up")
                cycled.set()
            time.sleep(1)

    def make_whole(self) -> None:
        """Load the weights that were left out, and forget what was computed without them."""
        self._post("/collective_rpc", {"method": "reload_weights"})
        self._post("/reset_prefix_cache")

    def _post(self, path: str, body: object = None) -> None:
        httpx.post(self.behind + path, json=body, timeout=600).raise_for_status()

    def look_at_processes(self) -> None:
        """Note who shows the key to everybody on this machine."""
        for process in psutil.process_iter(["cmdline"]):
            if any(KEY in word for word in process.info["cmdline"] or ()):
                self.leaks.append(f"the key is in the list of processes: {process.pid}")

    def look_at_files(self) -> None:
        """Note which files hold the key, and whether it was shown where nginx redirects to."""
        for path in self.folder.rglob("*"):
            if path.is_file() and KEY.encode() in path.read_bytes():
                self.leaks.append(f"the key is in {path.relative_to(self.folder)}")
        for line in self.nginx.log.read_text(encoding="utf-8").splitlines():
            if line.startswith("/login"):
                self.leaks.append(f"a redirect was followed: {line.replace(KEY, 'KEY')}")


def main() -> int:
    """Try it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", help="a server to use instead of the fake")
    asked = parser.parse_args()
    with TemporaryDirectory() as inside, TemporaryDirectory() as outside, Served() as served:
        behind = asked.endpoint or served.start()
        with gateway(Path(outside), behind=behind) as nginx:
            trial = Trial(folder=Path(inside), behind=behind, nginx=nginx)
            _tried(trial)
    for line in (*trial.said, *(trial.leaks or ["no leak"])):
        sys.stdout.write(f"{line}\n")
    return 1 if trial.leaks else 0


def _tried(trial: Trial) -> None:
    write_scenario(trial.folder, REAL_PROMPTS)
    there = ["--endpoint", trial.nginx.endpoint, "--ca-file", str(trial.nginx.certificate)]
    elsewhere = ["--endpoint", f"{trial.nginx.url}/other", "--ca-file", str(trial.nginx.certificate)]
    scenario = "scenarios/small.yaml"
    trial.command("run", scenario, *there, expected=ExitCode.CLEAN)
    trial.command("run", scenario, *there, expected=ExitCode.INFRASTRUCTURE, with_key=False)
    trial.command("run", scenario, *elsewhere, expected=ExitCode.INFRASTRUCTURE)
    trial.watched("watch", *there, "--once", "--prompts", "4", "--max-tokens", "12")
    trial.make_whole()
    trial.command("bug-report", expected=ExitCode.CLEAN, with_key=False)
    trial.look_at_files()


if __name__ == "__main__":
    sys.exit(main())
