"""What contradicts that a call did what it must: its own answer, or a look at the engine afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from harness.history.observations import Observation
from harness.scenario.engine_state import EngineState
from harness.scenario.steps.calls import Transition
from harness.vllm_api.calls import CallResult


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a step, in words."""

    unconfirmed: list[str] = field(default_factory=list)
    """What contradicts that it did what it must."""
    missed: list[str] = field(default_factory=list)
    """Moments that did not come, so that its calls did not meet as they were meant to."""


def rests_on(engines: Iterable[EngineState], seen: Observation) -> bool:
    """Whether an engine that must be at work is seen asleep or paused, so that no answer would come."""
    return not any(engine.rests for engine in engines) and True in {seen.is_sleeping, seen.is_paused}


def unconfirmed(
    step: Transition,
    result: CallResult,
    *,
    before: EngineState,
    after: EngineState,
    seen: Observation,
    sleeping_pauses: bool,
) -> list[str]:
    """Say in words what contradicts that the step, whose call answered ``result``, did what it must."""
    if result.ok and before.asleep and not after.rests and seen.is_sleeping:
        woke = "woke nothing" if len(before.asleep) == 1 else "did not wake everything"
        said = f"{result.method} {result.path} answered {result.status} and {woke}"
        return [f"{said}: /is_sleeping says true, expected false"]
    return [
        *failed(step, result),
        *contradictions(after, seen, sleeping_pauses=sleeping_pauses),
        *still_listed(before.adapters.keys() - after.adapters.keys(), seen),
    ]


def still_listed(gone: Collection[str], seen: Observation) -> Iterator[str]:
    """Yield in words which adapters are served still although they must be gone."""
    for name in sorted({*gone} & {*(seen.served or ())}):
        yield f"/v1/models lists {name!r}, expected it to be gone"


def wrong_version(told: str | None, expected: str | None) -> list[str]:
    """Say in words what ``/weight_info`` told after an update, where that cannot be.

    What an engine calls its weights before any update has named them is its own affair.
    """
    if None in {told, expected} or told == expected:
        return []
    return [f"/weight_info says {told}, expected {expected}"]


def failed(step: Transition, result: CallResult) -> Iterator[str]:
    """Say in words what is wrong with the answer of a call that nothing else disturbed."""
    call = f"{result.method} {result.path}"
    if result.error is None and step.must_fail:
        yield f"{call} succeeded, but should have been refused"
    elif result.error is not None and not (step.must_fail and result.error.kind == "http"):
        yield f"{call}: {result.error.message}"
    elif result.field("success") is False:
        yield f"{result.path} reported that it failed"


def contradictions(engine: EngineState, seen: Observation, *, sleeping_pauses: bool) -> Iterator[str]:
    """Yield in words what was seen, when no call was under way, and cannot be.

    ``sleeping_pauses`` says whether the release is one whose sleep pauses the scheduler, and whose waking
    lets it go on; before, ``/is_paused`` knew of ``/pause`` alone.
    """
    if engine.is_sleeping is not None:
        yield from _unless_equal("/is_sleeping", seen.is_sleeping, engine.is_sleeping)
    if sleeping_pauses:
        yield from _unless_equal("/is_paused", seen.is_paused, engine.paused)
    yield from _unless_equal("/health", seen.is_healthy, True)
    if seen.served is not None:
        for name in sorted(engine.adapters.keys() - set(seen.served)):
            yield f"/v1/models does not list {name!r}, expected it to be loaded"
    gauge, expected = seen.sleep_state, engine.gauges
    if gauge is not None and expected and gauge not in expected:
        yield f"vllm:engine_sleep_state says {gauge}, expected {' or '.join(sorted(expected))}"


def _unless_equal(endpoint: str, seen: bool | None, expected: bool) -> Iterator[str]:  # noqa: FBT001 - two readings
    if seen is not None and seen is not expected:
        yield f"{endpoint} says {str(seen).lower()}, expected {str(expected).lower()}"
