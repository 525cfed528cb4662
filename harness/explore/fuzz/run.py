"""Searches for sequences of lifecycle calls after which an engine is not what it was.

A sequence is a script of the scenario's own steps, carried out and judged like any other; what
must hold is what every scenario holds an engine to.  What fails is shrunk, confirmed on fresh
engines, and written down as a scenario with a script that shows it without the harness.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from pydantic import JsonValue

from harness.drive.job import CellJob
from harness.errors import UsageError
from harness.explore.fuzz.confirming import CONFIRMATIONS, Confirmation, Confirmed, FuzzOptions
from harness.explore.fuzz.engine import Carried, FuzzEngine
from harness.explore.fuzz.findings import KnownFindings, Signature, signature
from harness.explore.fuzz.in_words import words
from harness.explore.fuzz.moves import SAFE_MOVES
from harness.explore.fuzz.scenario import (
    SETTINGS,
    WHOLE,
    base_scenario,
    scenario_of,
    write_scenario,
)
from harness.explore.fuzz.search import Budget, Minimal, Search, Steps, Tried
from harness.explore.fuzz.sequences import counts
from harness.history.files import replace_json, storing
from harness.models.model import provide_model
from harness.report.tables import Row, Table
from harness.report.text import count
from harness.runs.finding import new_run_directory
from harness.runs.looks import knows_noise
from harness.scenario.cells import load_cells

SEQUENCES_FILE = "sequences.jsonl"
FINDINGS_FILE = "findings.json"
KNOWN_FILE = "known-findings.json"
KNOWN_IN_SAFE_FILE = "known-findings-safe.json"
"""Of searches among safe sequences: what may be known of the others excuses nothing there."""
EXAMPLES_FOLDER = "fuzz-examples"
ENGINES_FOLDER = "search"

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_SECONDS_IN = {"s": 1, "m": 60, "h": 3600}


@dataclass(kw_only=True)
class Fuzz:
    """One search: what it tells goes to ``tell``, a sentence at a time."""

    options: FuzzOptions
    tell: Callable[[str], None]
    directory: Path = field(init=False)
    found: list[Confirmed] = field(default_factory=list, init=False)
    known_again: dict[str, int] = field(default_factory=dict, init=False)
    """How often each finding that was known already came up again."""
    _told_setting: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.directory = new_run_directory(self.options.out)
        name = KNOWN_IN_SAFE_FILE if self.options.moves == SAFE_MOVES else KNOWN_FILE
        self._known = KnownFindings(self.options.known or self.options.out / name)
        self._model = provide_model(self.options.model, dtype="float32")
        self._confirmation = Confirmation(options=self.options, model=self._model)
        self._engine = FuzzEngine(self._search_jobs(), self.options.choice.runtime, knows_noise=knows_noise)
        self._budget = Budget(seconds=self.options.budget_s, sequences=self.options.examples)

    @property
    def tried(self) -> int:
        """Sequences carried out so far."""
        return self._budget.carried_out

    @property
    def engines(self) -> int:
        """Engines started for the search so far."""
        return self._engine.boots

    @property
    def shown(self) -> list[Confirmed]:
        """The findings that a fresh engine showed again; what only one engine did may have been its own."""
        return [each for each in self.found if each.shown]

    def run(self) -> None:
        """Search until the budget is spent.  What is found is on disk as soon as it is found.

        Raises:
            InfrastructureError: no engine can be had, or the directory cannot be written.
        """
        with _termination_interrupts(), start_blocking_portal() as portal:
            serving = portal.start_task_soon(self._engine.serve)
            try:
                for minimal in self._search(partial(portal.call, self._engine.try_sequence)).new_failures():
                    self._found(minimal)
            finally:
                serving.cancel()

    def _search(self, try_sequence: Callable[[Steps, int], Carried]) -> Search:
        return Search(
            try_sequence=try_sequence,
            moves=self.options.moves,
            known=self._known,
            budget=self._budget,
            seed=self.options.seed,
            database=self.options.out / EXAMPLES_FOLDER,
            watch=self._note,
            settings=len(SETTINGS),
        )

    def _found(self, minimal: Minimal) -> None:
        """Remember a finding, then see whether it shows on fresh engines; that is not the search's time."""
        began = self._budget.clock()
        its = signature(minimal.failure, minimal.steps)
        self._known.add(its)
        self.tell(f"found: {its.told}; confirming on {CONFIRMATIONS} fresh engines")
        self.found.append(self._unconfirmed(minimal, its))
        self._write_findings()
        confirmed = self._confirmation.confirm(minimal, self.found[-1])
        self.found[-1] = confirmed
        if confirmed.shown:
            # What a fresh engine does not show, or was not asked for, the next search must find again.
            self._known.keep(its)
        self._write_findings()
        self.tell(f"  reproduced {confirmed.shown} of {CONFIRMATIONS} times: {confirmed.directory}")
        self._budget.paused_s += self._budget.clock() - began

    def _unconfirmed(self, minimal: Minimal, its: Signature) -> Confirmed:
        name = scenario_of(minimal.steps, its, WHOLE, SETTINGS[minimal.setting]).name
        return Confirmed(
            signature=its,
            name=name,
            calls=tuple(words(step) for step in minimal.steps if counts(step)),
            shown=None,
            reason=minimal.carried.result.reason,
            directory=self.directory / "findings" / name,
            engine=str(SETTINGS[minimal.setting]),
        )

    def _search_jobs(self) -> list[CellJob]:
        """What engines are started as, one for each setting."""
        folder = self.directory / ENGINES_FOLDER
        cells = [
            cell
            for number, setting in enumerate(SETTINGS, start=1)
            for cell in load_cells(
                [write_scenario(base_scenario(self.options.moves, setting), folder / f"setting-{number}")]
            )
        ]
        return [
            CellJob(
                cell=cell,
                run_id=self.directory.name,
                directory=folder,
                model=self._model,
                extra_args=self.options.vllm_args,
            )
            for cell in cells
        ]

    def _note(self, tried: Tried) -> None:
        """Put a sequence on record, and tell of it where it is worth a line."""
        carried = tried.carried
        line = {
            "calls": [words(step) for step in carried.steps],
            "engine": str(SETTINGS[tried.setting]),
            "failure": tried.failure.kind if tried.failure else None,
            "cause": tried.failure.cause if tried.failure else None,
            "known": tried.known is not None,
            "verdict": carried.result.verdict,
            "error": carried.result.error,
            "seconds": round(carried.seconds, 2),
        }
        path = self.directory / SEQUENCES_FILE
        with storing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if tried.known:
            self.known_again[tried.known.told] = self.known_again.get(tried.known.told, 0) + 1
        if tried.setting != self._told_setting and not tried.shrinking:
            self._told_setting = tried.setting
            self.tell(f"from here on: {SETTINGS[tried.setting]}")
        self.tell(self._line(tried))

    def _line(self, tried: Tried) -> str:
        left = self._budget.seconds_left
        clock = f", {max(left, 0) / 60:.1f} min left" if left < float("inf") else ""
        outcome = "holds" if tried.failure is None else f"{tried.failure.kind} ({tried.failure.cause})"
        known = ", known" if tried.known else ""
        what = "shrinking: " if tried.shrinking else ""
        calls = ", ".join(words(step) for step in tried.carried.steps if counts(step))
        return f"[{self.tried}{clock}] {what}{calls}: {outcome}{known}"

    def _write_findings(self) -> None:
        replace_json(self.directory / FINDINGS_FILE, {"findings": [_as_json(each) for each in self.found]})


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """A termination signal ends a search as Ctrl-C does: in order, its engine stopped."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def seconds_in(budget: str) -> float:
    """The seconds of ``90s``, ``20m`` or ``1.5h``.

    Raises:
        UsageError: it is none of these.
    """
    written = _DURATION.fullmatch(budget)
    if written is None or not float(written[1]):
        raise UsageError(f"--budget: cannot understand {budget!r}", remedy="write it like 90s, 20m or 1.5h")
    return float(written[1]) * _SECONDS_IN[written[2]]


def table(search: Fuzz) -> Table:
    """What was found, a row each."""
    return Table(
        headings=("finding", "calls", "failure", "cause", "on fresh engines"),
        rows=tuple(
            Row(
                fields=(
                    each.name,
                    ", ".join(each.calls),
                    each.signature.kind,
                    each.signature.cause,
                    "not finished" if each.shown is None else f"{each.shown} of {CONFIRMATIONS}",
                ),
                tone="worse" if each.shown else "changed",
            )
            for each in search.found
        ),
    )


def conclusion(search: Fuzz) -> str:
    """What a search comes to, in a sentence."""
    again = sum(search.known_again.values())
    known = f", known findings came up {count(again, 'time')}" if again else ""
    found = count(len(search.shown), "new finding") if search.shown else "nothing new found"
    once = sum(each.shown == 0 for each in search.found)
    unsteady = f", {once} that no fresh engine reproduced" if once else ""
    untried = sum(each.shown is None for each in search.found)
    cut_short = f", {untried} whose confirmation was cut short" if untried else ""
    engines = count(search.engines, "engine")
    return f"{count(search.tried, 'sequence')} on {engines}: {found}{unsteady}{cut_short}{known}"


def _as_json(finding: Confirmed) -> dict[str, JsonValue]:
    return {
        "name": finding.name,
        "kind": finding.signature.kind,
        "cause": finding.signature.cause,
        "calls": list(finding.calls),
        "engine": finding.engine,
        "shown_on_fresh_engines": finding.shown,
        "reason": finding.reason,
        "directory": str(finding.directory),
    }
