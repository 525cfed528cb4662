"""Plants every fault in a real engine and sees whether it is noticed and attributed to the right cause."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import anyio

from harness.check import judge
from harness.check.result import CellResult, Verdict
from harness.drive.faults import known_fault
from harness.drive.job import CellJob
from harness.drive.recorder import Watcher
from harness.drive.run import run_interruptibly
from harness.engine_plugin.faults import FAULTS, Fault
from harness.errors import UsageError
from harness.explore.selftest.trials import SWITCHBOARD, run_trials
from harness.history.events import CellFailed, CellFinished, Event
from harness.history.recording import load_recording
from harness.history.run_description import ChosenRuntime
from harness.installation import shipped_scenarios
from harness.models.model import provide_model
from harness.report.progress import Progress
from harness.report.tables import Row, Table
from harness.report.text import count
from harness.runs.finding import new_run_directory
from harness.runs.looks import knows_noise
from harness.runs.options import RunOptions
from harness.runs.plan import RunPlan
from harness.runs.record import RunRecord, recorded
from harness.scenario.cells import Cell, load_cells
from harness.scenario.schema import Deadlines, Scenario
from harness.scenario.script import Step
from harness.scenario.steps.asking import NullTransition, NullTransitionOptions, Probe, ProbeOptions
from harness.scenario.steps.loading import LoadAdapter, LoadAdapterOptions
from harness.servers.select import Choice

SCENARIO = "selftest.yaml"
HEALTHY = ("healthy-before", "healthy-after")
"""Trials without a fault, around all others: they must be clean."""

ADAPTER = "adapter"
"""The name under which the trial of lost adapters loads one."""

Trial = tuple[str, Fault | None]
"""The name of a cell's arm, and what is planted."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one trial came out.  ``result`` is None where it did not take place."""

    name: str
    fault: Fault | None
    result: CellResult | None

    @property
    def noticed(self) -> bool:
        """Whether the engine was found damaged."""
        return self.result is not None and self.result.verdict in {Verdict.CORRUPT, Verdict.DEGRADED}

    @property
    def named(self) -> bool:
        """Whether the cause is the planted one."""
        cause = self.result.cause if self.result else None
        return self.fault is not None and cause is not None and cause.value == self.fault.cause

    @property
    def as_expected(self) -> bool:
        """Whether a fault was noticed, or a healthy engine is clean."""
        if self.fault is not None:
            return self.noticed
        return self.result is not None and self.result.verdict is Verdict.CLEAN

    @property
    def in_doubt(self) -> bool:
        """Whether the recording cannot tell, and says so."""
        return self.result is not None and self.result.verdict is Verdict.INCONCLUSIVE

    @property
    def seen_in(self) -> str:
        """The evidence that shows the damage, in the order it was asked for."""
        findings = self.result.findings if self.result else ()
        answers = {
            finding.message.split(": ")[0].rpartition(", ")[2] for finding in findings if finding.prompt
        }
        others = sorted({finding.checker for finding in findings if not finding.prompt})
        known = [each for each in ("warm", "cold", "scored", "forced", "sampled") if each in answers]
        return ", ".join([*known, *others])


def faults_named(names: Sequence[str]) -> list[Fault]:
    """The faults with these names, all that can run without a name.

    Raises:
        UsageError: there is no such fault, or the default model has nothing that it could break.
    """
    asked = [known_fault(name) for name in names]
    for fault in asked:
        if fault.pictures:
            raise UsageError(
                f"{fault.name} needs a model that reads pictures, which the default model is not",
                remedy=f"sleepwake run multimodal-cache --fault {fault.name} --model MODEL",
            )
    # An engine of several ranks may take as many GPUs: that is for whoever asks.
    alone = [fault for fault in FAULTS.values() if not fault.pictures and fault.ranks == 1]
    return [fault for fault in FAULTS.values() if fault in (asked or alone)]


def shipped_cell() -> Cell:
    """The cell that faults are planted in."""
    return load_cells([shipped_scenarios() / SCENARIO])[0]


@dataclass(frozen=True, kw_only=True)
class Selftest:
    """Which faults are planted, in which engine, and where what is recorded goes."""

    faults: Sequence[Fault]
    choice: Choice
    out: Path
    base: Cell = field(default_factory=shipped_cell)
    """What every fault is taken through."""
    vllm_args: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where the options that were given came from."""

    def run(self, *, progress: Callable[[int], Progress]) -> tuple[Path, list[Outcome]]:
        """Run it; return the run directory and how each trial came out.

        Raises:
            ModelError: the model cannot be provided.
            StorageError: the run directory cannot be written.
        """
        base = self.base
        model = provide_model(None, dtype="float32")
        directory = new_run_directory(self.out)
        trials = [*self._trials()]
        plan = RunPlan(
            directory=directory,
            cells=tuple(replace(base, arm_name=name) for name, _ in trials),
            model=model,
            runtime=ChosenRuntime(name=self.choice.runtime.name, why=self.choice.reason),
            options=RunOptions(vllm_args=self.vllm_args, sources=self.sources),
            command=tuple(sys.argv),
        )
        with progress(len(trials)) as shown, recorded(plan) as record:
            boots = partial(self._boots, plan, base, trials, record, shown)
            record.interrupted = not anyio.run(run_interruptibly, boots)
        return directory, [_outcome(plan, base, name, fault) for name, fault in trials]

    def _trials(self) -> Iterator[Trial]:
        yield HEALTHY[0], None
        yield from ((fault.name, fault) for fault in self.faults if not fault.needs)
        yield HEALTHY[1], None
        for fault in sorted(self.faults, key=lambda fault: fault.needs):
            if fault.needs:
                yield fault.name, fault

    async def _boots(
        self, plan: RunPlan, base: Cell, trials: Sequence[Trial], record: RunRecord, progress: Progress
    ) -> None:
        """One engine for all faults that need the same flags."""
        by_needs = groupby(trials, key=lambda trial: trial[1].needs if trial[1] else ())
        for number, (needs, group) in enumerate(by_needs):
            arm = base.arm.model_copy(update={"args": (*base.arm.args, *flags_of(needs))})
            cell = replace(base, arm=arm, scenario=scenario_for(needs, base.scenario))
            shared = replace(
                plan.job(cell),
                directory=plan.directory / "shared" / str(number),
                fault=SWITCHBOARD,
            )
            await run_trials(
                shared,
                self.choice.runtime,
                [
                    replace(plan.job(replace(cell, arm_name=name)), fault=fault.name if fault else None)
                    for name, fault in group
                ],
                knows_noise=knows_noise,
                watcher_of=lambda job: record.noting(job.cell.id, _watcher(job, progress)),
            )


def flags_of(needs: tuple[str, ...]) -> tuple[str, ...]:
    """The flags that give an engine the part a fault breaks."""
    match needs:
        case ("--speculative-config",):
            draft = {"method": "draft_model", "model": "$MODEL", "num_speculative_tokens": 2}
            return (*needs, json.dumps(draft))
        case ("--kv-transfer-config",):
            connector = {
                "kv_connector": "ExampleConnector",
                "kv_role": "kv_both",
                "kv_connector_extra_config": {"shared_storage_path": "$SCRATCH"},
            }
            return (*needs, json.dumps(connector))
        case _:
            return needs


def scenario_for(needs: tuple[str, ...], scenario: Scenario) -> Scenario:
    """The scenario for an engine with such a part.

    Where every draft is rejected, an answer takes several times as long and is still the right one.  An
    adapter has to be loaded and asked; scoring prompts kills a CPU engine that may load one
    (docs/findings.md).
    """
    match needs:
        case ("--speculative-config",):
            return scenario.model_copy(update={"deadlines": Deadlines()})
        case ("--enable-lora",):
            return scenario.model_copy(
                update={
                    "script": _with_adapter(scenario.script),
                    "evidence": tuple(each for each in scenario.evidence if each != "scored"),
                }
            )
        case _:
            return scenario


def _with_adapter(script: tuple[Step, ...]) -> tuple[Step, ...]:
    """The same script, which asks a loaded adapter as well as the base model."""
    base = next(step.probe.name for step in script if isinstance(step, Probe))
    prepared = 1 + max(number for number, step in enumerate(script) if isinstance(step, NullTransition))
    asked = ProbeOptions(name=ADAPTER, adapter=ADAPTER, differs_from=(base,))
    return (
        *script[:prepared],
        LoadAdapter(load_adapter=LoadAdapterOptions(name=ADAPTER, adapter="first")),
        Probe(probe=asked.model_copy(update={"baseline": True})),
        NullTransition(null_transition=NullTransitionOptions(like=ADAPTER)),
        *script[prepared:],
        Probe(probe=asked.model_copy(update={"name": f"{ADAPTER}-after-wake", "same_as": ADAPTER})),
    )


def _watcher(job: CellJob, progress: Progress) -> Watcher:
    def watch(event: Event) -> None:
        if job.fault == SWITCHBOARD:
            return
        progress.show(job.cell.id, event)
        if isinstance(event, CellFinished | CellFailed):
            progress.conclude(judge(load_recording(job.directory)))

    return watch


def _outcome(plan: RunPlan, base: Cell, name: str, fault: Fault | None) -> Outcome:
    directory = plan.job(replace(base, arm_name=name)).directory
    return Outcome(
        name=name, fault=fault, result=judge(load_recording(directory)) if directory.exists() else None
    )


def table(outcomes: Sequence[Outcome]) -> Table:
    """What was planted beside what was found, a row each."""
    return Table(
        headings=("planted", "cause planted", "verdict", "cause found", "seen in"),
        rows=tuple(
            Row(
                fields=(
                    each.name,
                    each.fault.cause if each.fault else "nothing",
                    _verdict(each.result),
                    each.result.cause.value if each.result and each.result.cause else "",
                    each.seen_in,
                ),
                tone="" if each.as_expected else "worse",
            )
            for each in outcomes
        ),
    )


def conclusion(outcomes: Sequence[Outcome]) -> str:
    """What the table comes to, in a sentence."""
    planted = [each for each in outcomes if each.fault is not None]
    healthy = [each for each in outcomes if each.fault is None]
    return (
        f"{sum(each.noticed for each in planted)} of {count(len(planted), 'fault')} noticed, "
        f"{sum(each.named for each in planted)} attributed to the right cause, "
        f"{sum(each.in_doubt for each in planted)} in doubt; "
        f"{sum(each.as_expected for each in healthy)} of {count(len(healthy), 'healthy engine')} clean"
    )


def _verdict(result: CellResult | None) -> str:
    if result is None:
        return "not run"
    return result.verdict.value if result.verdict else f"error: {result.reason}"
