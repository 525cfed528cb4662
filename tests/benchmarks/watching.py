"""``python -m tests.benchmarks.watching``: what a watch makes of a real engine that sleeps at random.

A script sleeps and wakes the engine, restarts it twice, and twice lets it come back damaged: with the
founding bug, and from level 2 without its weights.  Beside it runs ``sleepwake watch``, which knows nothing
of the script.  Ends with 1 unless every wake-up was noticed and exactly the two damages raised an alarm.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from cyclopts import App
from prometheus_client.parser import text_string_to_metric_families

from harness.check.result import Cause
from harness.models.model import Dtype
from tests.benchmarks.their_engine import HOST, TheirEngine, their_engine
from tests.marked_part import write_part

PART = "watching"
PATIENCE_S = 1800.0
"""For the watch to judge what it has noticed."""
SETTLES_S = 5.0
"""Longer than a watch takes from one look to the next."""

app = App(name="watching", help_format="plaintext")


@dataclass(frozen=True, kw_only=True)
class Damage:
    """How the engine comes back wrong once, and what may be said of it."""

    name: str
    causes: tuple[Cause, ...]
    level: int
    fault: str | None = None


DAMAGES = (
    Damage(name="the founding bug", causes=(Cause.STALE_PREFIX_CACHE,), level=1, fault="keep-prefix-cache"),
    # A watch never reloads weights to see whether that heals, so it need not know.
    Damage(name="level 2 without a reload", causes=(Cause.LOST_WEIGHTS, Cause.UNKNOWN), level=2),
)


@dataclass(kw_only=True, eq=False)
class Watch:
    """``sleepwake watch`` as a process, seen from outside."""

    process: subprocess.Popen[str]
    address: str
    http: httpx.Client
    lines: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    """What came at the webhook."""

    def counts(self) -> dict[str, float]:
        """Its metrics by their names, and verdicts by ``checks.VERDICT``."""
        text = self.http.get(f"http://{self.address}/metrics").text
        return {
            f"{sample.name.removeprefix('sleepwake_watch_')}{_label(sample.labels)}": sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def checks(self) -> int:
        """How many have come to a judgement."""
        return round(sum(value for name, value in self.counts().items() if name.startswith("checks_total")))

    def has_judged_all(self) -> bool:
        """Whether nothing that it noticed is still to be judged."""
        reason = self.http.get(f"http://{self.address}/ready").text
        return not reason.startswith(("not checked yet", "the engine rests", "the server", "there is no"))

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: it never did, or the watch has ended.
        """
        until = time.monotonic() + PATIENCE_S
        while not self._does(holds):
            if self.process.poll() is not None or time.monotonic() > until:
                raise TimeoutError(f"{what} was waited for; the watch said:\n" + "".join(self.lines))
            time.sleep(2)

    @staticmethod
    def _does(holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except httpx.TransportError:
            return False  # it does not listen yet


def _label(labels: dict[str, str]) -> str:
    return f".{labels['verdict']}" if labels else ""


@dataclass(kw_only=True)
class Seen:
    """What the script did, and what came of it."""

    sleeps: int = 0
    wake_ups: int = 0
    restarts: int = 0
    noticed: int = 0
    restarts_noticed: int = 0
    alarms: dict[str, list[str]] = field(default_factory=dict)
    """By damage: what the watch said between it and its repair."""
    other_alarms: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    given_up: int = 0
    without_own_check: int = 0
    judged_again: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether everything was noticed and everything that was said is true."""
        named = all(
            len(self.alarms.get(damage.name, [])) == 1
            and self.alarms[damage.name][0] in {cause.value for cause in damage.causes}
            for damage in DAMAGES
        )
        return (
            (self.noticed, self.restarts_noticed) == (self.wake_ups, self.restarts)
            and named
            and not self.other_alarms
        )


@app.default
def benchmark(
    *,
    sleeps: int = 50,
    seed: int = 17,
    port: int = 8417,
    dtype: Dtype = "float32",
    asking: tuple[str, ...] = (),
    out: Path = Path("reports/watching"),
    into: Path | None = None,
) -> int:
    """Watch a real engine, and print what came of it.

    Args:
        sleeps: How often the engine is put to sleep.
        seed: Of all that is left to chance.
        port: Of the engine.
        dtype: What the engine computes in.
        asking: Options of the watch, such as --asking=--prompts=8.
        out: Holds the engine's log and the run directory.
        into: A Markdown file whose part called "watching" is rewritten with the table.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (
        their_engine(port, out / "server.log", dtype=dtype) as engine,
        _watch(engine.url, out, *asking) as watch,
    ):
        began = time.monotonic()
        seen = drive(engine, watch, sleeps=sleeps, draw=random.Random(seed))  # noqa: S311 - no secret
        seen.seconds = time.monotonic() - began
    seen.judged_again = _judged_again(out)
    seen.lines = [line.rstrip() for line in watch.lines]
    told = table(seen)
    _say(told)
    if into is not None:
        words = [f"--sleeps={sleeps}", f"--dtype={dtype}", *(f"--asking={word}" for word in asking)]
        command = f"python -m tests.benchmarks.watching {' '.join(words)} --into {into}"
        write_part(into, PART, f"Written by `{command}`.\n\n{told}")
    return 0 if seen.is_right else 1


def drive(engine: TheirEngine, watch: Watch, *, sleeps: int, draw: random.Random) -> Seen:
    """Do what the script does, and collect what the watch made of it."""
    watch.until(lambda: watch.counts()["has_baseline"] == 1, "a baseline")
    seen = Seen()
    special = draw.sample(range(1, sleeps - 1), len(DAMAGES) + 2)
    damaged = dict(zip(special[: len(DAMAGES)], DAMAGES, strict=True))
    restarts = set(special[len(DAMAGES) :])
    for number in range(sleeps):
        if number in restarts:
            _say(f"{number}: restart")
            time.sleep(SETTLES_S)  # what it counted is gone afterwards
            engine.restart()
            seen.restarts += 1
        damage = damaged.get(number)
        before = len(watch.told)
        if damage is None:
            _sleep_and_wake(engine, seen, draw)
            if draw.random() < 1 / 2:  # else the next sleep comes whenever it comes
                watch.until(watch.has_judged_all, "a judgement")
            time.sleep(draw.uniform(0, 5))
            seen.other_alarms += _alarms(watch, before)
        else:
            _say(f"{number}: {damage.name}")
            watch.until(watch.has_judged_all, "a judgement")
            time.sleep(SETTLES_S)
            seen.other_alarms += _alarms(watch, before)
            before, checks = len(watch.told), watch.checks()
            _come_back_damaged(engine, seen, damage)
            watch.until(lambda checks=checks: watch.checks() > checks, "a judgement")  # type: ignore[misc]
            watch.until(watch.has_judged_all, "a judgement")
            time.sleep(SETTLES_S)
            seen.alarms[damage.name] = _alarms(watch, before)
            engine.make_whole()
    before = len(watch.told)
    watch.until(watch.has_judged_all, "the last judgement")
    time.sleep(SETTLES_S)
    seen.other_alarms += _alarms(watch, before)
    return _counted(seen, watch.counts())


def _sleep_and_wake(engine: TheirEngine, seen: Seen, draw: random.Random) -> None:
    """Level 1, or level 2 with all that belongs to it; asleep for no time at all, or for seconds."""
    level = draw.choice((1, 2))
    engine.sleep(level)
    seen.sleeps += 1
    time.sleep(draw.choice((0, draw.uniform(0, 3))))
    if level == 1:
        engine.wake_up()
        seen.wake_ups += 1
        return
    engine.wake_up("weights")
    engine.call_workers("reload_weights")
    engine.wake_up("kv_cache")
    seen.wake_ups += 2


def _come_back_damaged(engine: TheirEngine, seen: Seen, damage: Damage) -> None:
    if damage.fault is not None:
        engine.call_workers("plant_fault", name=damage.fault)
    engine.sleep(damage.level)
    engine.wake_up()
    seen.sleeps += 1
    seen.wake_ups += 1


def _alarms(watch: Watch, before: int) -> list[str]:
    """The causes of the alarms since there were so many messages."""
    return [str(told["cause"]) for told in watch.told[before:] if told["verdict"] in {"corrupt", "degraded"}]


def _counted(seen: Seen, counts: dict[str, float]) -> Seen:
    seen.noticed = round(counts["wake_ups_total"])
    seen.restarts_noticed = round(counts["restarts_total"])
    seen.given_up = round(counts["given_up_total"])
    seen.without_own_check = round(counts["without_own_check_total"])
    seen.verdicts = {
        name.partition(".")[2]: round(value)
        for name, value in counts.items()
        if name.startswith("checks_total")
    }
    return seen


def _judged_again(out: Path) -> dict[str, int]:
    """What ``sleepwake check`` says of every check that was recorded."""
    run = (out / "latest").resolve()
    subprocess.run([sys.executable, "-m", "sleepwake", "check", str(run)], check=False, capture_output=True)
    cells = json.loads((run / "verdict.json").read_text(encoding="utf-8"))["cells"]
    verdicts = [cell["verdict"] for cell in cells]
    return {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}


_COSTS = re.compile(r"\(([\d.]+) s, ([\d,]+) tokens?\)$")
_BASELINE = re.compile(r"baseline of .* taken in ([\d.]+) s for ([\d,]+) tokens")


def table(seen: Seen) -> str:
    """What came of it, in Markdown."""
    costs = [found for line in seen.lines if (found := _COSTS.search(line))]
    baselines = [found for line in seen.lines if (found := _BASELINE.search(line))]
    seconds = sorted(float(each[1]) for each in costs)
    tokens = sorted(int(each[2].replace(",", "")) for each in costs)
    said = {name: "; ".join(f"one, cause {each}" for each in found) for name, found in seen.alarms.items()}
    rows = [
        ("sleeps, at random, in", f"{seen.sleeps}, {seen.seconds / 60:.0f} min"),
        ("wake-up calls noticed", f"{seen.noticed} of {seen.wake_ups}"),
        ("restarts noticed", f"{seen.restarts_noticed} of {seen.restarts}"),
        *((f"alarms after {name}", told or "none") for name, told in said.items()),
        ("other alarms", f"{len(seen.other_alarms)}"),
        ("checks", ", ".join(f"{value} {name}" for name, value in seen.verdicts.items() if value)),
        ("the same, judged again", ", ".join(f"{n} {name}" for name, n in seen.judged_again.items())),
        ("checks given up, since the engine slept again", f"{seen.given_up}"),
        ("wake-up calls judged together with a later one", f"{seen.without_own_check}"),
        ("seconds a check", f"{statistics.median(seconds):.1f}, at most {seconds[-1]:.1f}"),
        ("tokens a check", f"{statistics.median(tokens):,.0f}, at most {tokens[-1]:,}"),
        ("the baseline", "; ".join(f"{each[1]} s, {each[2]} tokens" for each in baselines)),
    ]
    return "\n".join(["| what | seen |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)])


@contextmanager
def _watch(endpoint: str, out: Path, *asking: str) -> Iterator[Watch]:
    """A watch with a webhook; it is gone afterwards."""
    with _hook() as (hook, told):
        with ThreadingHTTPServer((HOST, 0), BaseHTTPRequestHandler) as free:
            address = f"{HOST}:{free.server_port}"
        words = ["watch", "--endpoint", endpoint, "--listen", address, "--out", str(out), *asking]
        process = subprocess.Popen(
            [sys.executable, "-m", "sleepwake", *words],
            env={**os.environ, "SLEEPWAKE_WEBHOOK": hook, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with httpx.Client(timeout=60) as http:
            watch = Watch(process=process, address=address, told=told, http=http)
            reading = threading.Thread(target=_read, args=(process, watch.lines))
            reading.start()
            try:
                yield watch
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)
                reading.join()


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        _say(line.rstrip())


@contextmanager
def _hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook: its address, and all that it is told."""
    told: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Hook) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://{HOST}:{server.server_port}/", told
        finally:
            server.shutdown()
            serving.join()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the benchmark's output


if __name__ == "__main__":
    sys.exit(app())
