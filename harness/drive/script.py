"""Walks through a scenario's script, one step after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from harness.drive.conditions import plan, repeated
from harness.drive.confirming import Outcome
from harness.drive.controls import ask_controls
from harness.drive.first_tokens import time_first_tokens
from harness.drive.kinds import ask_kinds
from harness.drive.needs import features_of, features_of_arm
from harness.drive.overlap import overlap
from harness.drive.probing import role_and_target, run_passes, run_probe
from harness.drive.requests import run_beside
from harness.drive.session import Session
from harness.drive.transitions import change_engine
from harness.history.events import CERTAIN, CellShortened
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import Role
from harness.scenario.engine_state import EngineState
from harness.scenario.schema import Arm, Scenario
from harness.scenario.script import Repeat, Step
from harness.scenario.steps.asking import NullTransition, NullTransitionOptions, Probe
from harness.scenario.steps.concurrently import Concurrently
from harness.scenario.steps.lifecycle import (
    Sleep,
    SleepOptions,
    WakeOptions,
    WakeUp,
)
from harness.scenario.steps.requests import CancelRequests, FinishRequests, StartRequests
from harness.vllm_api.versions import Feature

MOST_NULL_PASSES = 4
"""Of a null transition that does not say how many: what it takes where answers differ by themselves."""


NOTHING_WOULD_RETURN = "the engine rests although the script has woken it, so no answer would come"


@dataclass(frozen=True, kw_only=True)
class PlacedStep:
    """A step with its place: ``path`` names it in the history, ``cycle`` is 0 outside a repetition."""

    path: str
    cycle: int
    step: Step

    @property
    def action(self) -> str:
        """The key that names the step in YAML."""
        return self.step.key()

    @property
    def repetition(self) -> str | None:
        """The path of the ``repeat`` it is in."""
        return self.path.partition("[")[0] if self.cycle else None

    def cycle_ended(self, ahead: Iterable[PlacedStep]) -> list[PlacedStep]:
        """The further cycles of its repetition, where it is the last step of a cycle; else nothing."""
        again = [each for each in ahead if self.repetition is not None and each.repetition == self.repetition]
        return again if again and again[0].cycle > self.cycle else []

    @property
    def options(self) -> dict[str, JsonValue]:
        """The step's options as they are in effect, defaults included."""
        if isinstance(self.step, Concurrently):
            return {"calls": self.step.model_dump(mode="json", exclude_defaults=True)[self.action]}
        dumped: dict[str, dict[str, JsonValue]] = self.step.model_dump(mode="json")
        return dumped[self.action]


def unrolled(script: tuple[Step, ...]) -> Iterator[PlacedStep]:
    """Yield every step in the order it is carried out, repetitions written out."""
    for number, step in enumerate(script, start=1):
        if not isinstance(step, Repeat):
            yield PlacedStep(path=str(number), cycle=0, step=step)
            continue
        for cycle in range(1, step.repeat + 1):
            for inner_number, inner in enumerate(step.steps, start=1):
                yield PlacedStep(path=f"{number}[{cycle}].{inner_number}", cycle=cycle, step=inner)


def judged_passes(scenario: Scenario) -> int:
    """How many passes of ``scenario`` are judged, at the most."""
    probes = [placed.step.probe for placed in unrolled(scenario.script) if isinstance(placed.step, Probe)]
    return sum(
        len(plan(scenario, probe, role=Role.AFTER).passes) for probe in probes[1:] if not probe.baseline
    )


def lacking(session: Session, arm: Arm) -> list[str]:
    """What the script and the arm need and the release under test is known not to have."""
    needed = features_of(session.scenario) | features_of_arm(arm)
    return sorted(feature.value for feature in needed if session.lacks(feature))


async def run_script(
    session: Session,
    *,
    is_decided: Callable[[], bool] = lambda: False,
    require_as_fresh: Callable[[], None] = lambda: None,
) -> None:
    """Carry out the whole script.

    ``require_as_fresh`` is called after the first questions, before anything is done to the engine.
    Once the control questions have been asked, ``is_decided`` is asked at the end of each cycle whether
    the verdict is certain; if so, the further cycles of that repetition are left out.  So is everything
    from the first question on to an engine that rests although the script has woken it.
    """
    ahead = deque(unrolled(session.scenario.script))
    only_asked = True
    while ahead:
        placed = ahead.popleft()
        if only_asked and not placed.step.asks:
            only_asked = False
            require_as_fresh()
        if session.rests_on and (placed.step.asks or isinstance(placed.step, StartRequests)):
            _leave_out(session, [placed, *ahead], because=NOTHING_WOULD_RETURN)
            return
        await run_step(session, placed)
        again = placed.cycle_ended(ahead)
        if again and session.controls_asked and is_decided():
            _leave_out(session, again)
            ahead = deque(each for each in ahead if each not in again)


def _leave_out(session: Session, steps: Iterable[PlacedStep], *, because: str = CERTAIN) -> None:
    """Record which steps are left out, and why."""
    paths = tuple(each.path for each in steps)
    session.recorder.record(CellShortened(t=session.recorder.now(), skipped=paths, because=because))


async def run_step(session: Session, placed: PlacedStep) -> None:
    """Carry out one step and record its beginning and end.

    Raises:
        ServerDiedError: the server is gone.
    """
    recorder = session.recorder
    session.step, session.cycle = placed.path, placed.cycle
    started = recorder.now()
    recorder.record(_beginning(placed, session.states, t=started))
    if placed.step.changes_engine:
        session.transitions += 1
    outcome = await _do(session, placed.step)
    # A script against a dead server runs on quickly: stop where it died.
    await session.require_alive()
    ended = recorder.now()
    recorder.record(
        StepFinished(
            t=ended,
            step=placed.path,
            seconds=ended - started,
            unconfirmed=tuple(outcome.unconfirmed),
            missed=tuple(outcome.missed),
        )
    )
    session.step = None


def _beginning(placed: PlacedStep, engines: Iterable[EngineState], *, t: float) -> StepStarted:
    """A step as the history knows it: what it is, and what the engine must be like after it."""
    step = placed.step
    asleep = {after.is_sleeping for engine in engines for after in step.outcomes(engine)}
    return StepStarted(
        t=t,
        step=placed.path,
        action=placed.action,
        options=placed.options,
        cycle=placed.cycle,
        changes_engine=step.changes_engine,
        takes_memory=step.takes_memory,
        only_adapter=step.only_adapter,
        # Looks taken during the others see a null transition's own sleep as well.
        asleep_after=asleep.pop() if step.changes_engine and len(asleep) == 1 else None,
    )


async def _do(session: Session, step: Step) -> Outcome:
    match step:
        case Probe():
            await _probe(session, step)
        case NullTransition():
            return Outcome(unconfirmed=await _null_transition(session, step.null_transition))
        case StartRequests() | FinishRequests() | CancelRequests():
            await run_beside(session, step)
        case Repeat():
            raise AssertionError("repetitions are written out before they are carried out")
        case Concurrently():
            return await overlap(session, step.concurrently)
        case _ if step.abandoned is not None:
            return await overlap(session, (step,))
        case _:
            return Outcome(unconfirmed=await change_engine(session, step))
    return Outcome()


async def _probe(session: Session, step: Probe) -> None:
    role, target = role_and_target(session, step.probe)
    suspects = await run_probe(session, step.probe, role=role, target=target)
    if role is Role.BASELINE:
        await session.record_weight_checksums(target.reference)
    elif role is Role.AFTER:
        if session.state.weight_version is not None:  # whose weights are they that it names?
            await session.record_weight_checksums(target.reference)
        asked = plan(session.scenario, step.probe, role=role)
        await ask_controls(session, suspects, target=target, concurrency=asked.concurrency)
    await time_first_tokens(session)


async def _null_transition(session: Session, options: NullTransitionOptions) -> list[str]:
    unconfirmed: list[str] = []
    # Releases without level 0 would take it for a level that discards.
    if options.by == "sleep_level_0" and not session.lacks(Feature.LEVEL_ZERO):
        unconfirmed += await change_engine(session, Sleep(sleep=SleepOptions(level=0)))
        unconfirmed += await change_engine(session, WakeUp(wake_up=WakeOptions()))
    if session.rests_on:
        return unconfirmed
    target = session.target_like(options.like)
    conditions = repeated(target.reference.answers, options.evidence, caches=session.caches_prompts)
    for _ in range(options.passes or MOST_NULL_PASSES):
        await run_passes(
            session, probe="null-transition", role=Role.NULL, conditions=conditions, target=target
        )
        if options.passes is None and session.knows_noise():
            break
    if target.adapter is None:
        await ask_kinds(session, target.reference, probe="null-transition", role=Role.NULL)
    await time_first_tokens(session)
    return unconfirmed
