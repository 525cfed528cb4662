"""Makes calls that overlap, or are given up, and holds what is seen against every order of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import anyio

from harness.drive.confirming import Outcome, contradictions, failed, rests_on, still_listed
from harness.drive.machine_load import machine_seen
from harness.drive.session import OBSERVATION_DEADLINE_S, Session
from harness.drive.transitions import make_call
from harness.history.observations import Observation
from harness.scenario.engine_state import EngineState
from harness.scenario.orders import Fate, Overlapped, states_after
from harness.scenario.steps.base import Abandon
from harness.scenario.steps.concurrently import Member
from harness.scenario.steps.lifecycle import ReleaseKvCacheMemory
from harness.scenario.steps.loading import ReloadWeights
from harness.scenario.steps.requests import CancelRequests
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallError, CallResult, telling_when_sent
from harness.vllm_api.versions import Feature

LOOKS_EVERY_S = 0.25
"""How often an engine is looked at for the effect of a call that was given up."""

_UNHEARD = frozenset({"timeout", "abandoned", "connection"})
"""Failures after which nobody knows what became of a call."""


@dataclass(kw_only=True, eq=False)
class _Made:
    """One that overlaps others, on its way."""

    step: Member
    sent: anyio.Event = field(default_factory=anyio.Event)
    made: float = 0.0
    answered: float = float("inf")
    result: CallResult | None = None
    missed: str | None = None

    @property
    def as_ordered(self) -> Overlapped:
        """It as it was made and answered."""
        return Overlapped(step=self.step, fate=self._fate, made=self.made, answered=self.answered)

    @property
    def believed(self) -> Overlapped:
        """The same, where the engine is believed that it had to refuse what it refused."""
        return replace(self.as_ordered, excused=True)

    @property
    def is_heard(self) -> bool:
        return self._fate is not Fate.OPEN

    @property
    def _fate(self) -> Fate:
        error = self.result.error if self.result else None
        if error is None or error.kind == "protocol":
            return Fate.DONE
        return Fate.OPEN if error.kind in _UNHEARD else Fate.REFUSED


async def overlap(session: Session, steps: Sequence[Member]) -> Outcome:
    """Make all calls, each at its moment, wait for their answers, and look at the engine.

    What it may be like then follows from the script, the model of the engine and which calls were refused.
    """
    await session.observe("before")
    befores = session.states
    # Without a path vLLM loads from the last one, whichever of these calls that is.
    session.weights_named = session.weights_named or any(isinstance(step, ReloadWeights) for step in steps)
    everything = [_Made(step=step) for step in steps]
    async with machine_seen(session), anyio.create_task_group() as tasks:
        for each in everything:
            tasks.start_soon(_make, session, each, everything)
    calls = [each for each in everything if each.result is not None and not each.result.unavailable]
    seen, explained = await _look(session, befores, calls)
    session.states = explained or _possible(befores, calls)
    session.rests_on = rests_on(session.states, seen)
    found = [*_wrong_answers(session, befores, calls)]
    if not explained:
        found.append(_unexplained(session, befores, calls, seen))
    return Outcome(unconfirmed=found, missed=[each.missed for each in everything if each.missed])


async def _make(session: Session, this: _Made, everything: Sequence[_Made]) -> None:
    """Wait for the moment, make the call, and put it into the history as soon as it has ended."""
    step = this.step
    try:
        await _wait_for_moment(session, this, everything)
        this.made = session.recorder.now()
        if isinstance(step, CancelRequests):
            await session.in_flight.cancel(step.cancel_requests.name)
            return
        within_s = step.abandoned.after if step.abandoned else None
        with telling_when_sent(this.sent.set):
            result = await make_call(session, step, within_s=within_s)
        this.result = session.call_recorded(_given_up(result, step.abandoned))
        if this.is_heard:
            this.answered = session.recorder.now()
    finally:
        this.sent.set()  # whoever waits for it must not wait for ever


async def _wait_for_moment(session: Session, this: _Made, everything: Sequence[_Made]) -> None:
    begins = this.step.begins
    if begins is None:
        return
    if (name := begins.after_first_token) is not None:
        patience_s = session.scenario.deadlines.answer
        if not await session.in_flight.first_tokens(name, patience_s=patience_s):
            this.missed = f"{this.step.key()} was to be made while the requests {name} ran, and none did"
    other = next((each for each in everything if each.step.key() == begins.while_pending), None)
    if other is not None:
        await other.sent.wait()
        # A round trip to the server: what was sent before has reached it as well.
        await lifecycle.health(session.connection.http, deadline_s=OBSERVATION_DEADLINE_S)
    await anyio.sleep(begins.after or 0.0)
    if other is not None and other.result is not None:
        this.missed = (
            f"{this.step.key()} was to be made while {begins.while_pending} was pending, "
            "which had been answered by then"
        )


def _given_up(result: CallResult, abandon: Abandon | None) -> CallResult:
    """The result of a call whose client gave it up says so."""
    if abandon is None or result.error is None or result.error.kind != "timeout":
        return result
    message = f"its client gave it up after {abandon.after:g} s"
    return replace(result, error=CallError(kind="abandoned", message=message))


async def _look(
    session: Session, befores: Collection[EngineState], calls: Sequence[_Made]
) -> tuple[Observation, tuple[EngineState, ...]]:
    """Look at the engine; return what of it is explained.

    Calls that were given up have their time to take effect: as long as none of their effects is seen, the
    engine is looked at again.
    """
    waits = [each.step.abandoned.within for each in calls if each.step.abandoned and not each.is_heard]
    until = anyio.current_time() + max(waits, default=0.0)
    ordered = [each.believed for each in calls]
    while True:
        seen = await session.observe("after")
        happened = states_after(befores, ordered, open_ones_happen=True)
        explained = _explained(session, befores, happened, seen)
        if explained or anyio.current_time() >= until:
            return seen, explained or _explained(session, befores, _possible(befores, calls), seen)
        await anyio.sleep(LOOKS_EVERY_S)


def _possible(befores: Collection[EngineState], calls: Sequence[_Made]) -> tuple[EngineState, ...]:
    """Everything that some order explains, if the engine had to refuse what it refused."""
    return states_after(befores, [each.believed for each in calls])


def _explained(
    session: Session,
    befores: Collection[EngineState],
    possible: Collection[EngineState],
    seen: Observation,
) -> tuple[EngineState, ...]:
    """Those of the possible states that nothing seen contradicts."""
    return tuple(
        state for state in possible if not _against(session, state, seen, known=(*befores, *possible))
    )


def _against(
    session: Session, state: EngineState, seen: Observation, *, known: Collection[EngineState]
) -> list[str]:
    """What is seen and cannot be, if the engine is like ``state``."""
    names = {name for each in known for name in each.adapters}
    return [
        *contradictions(state, seen, sleeping_pauses=not session.lacks(Feature.LEVEL_ZERO)),
        *still_listed(names - state.adapters.keys(), seen),
    ]


def _wrong_answers(
    session: Session, befores: Collection[EngineState], calls: Sequence[_Made]
) -> Iterator[str]:
    """Yield in words what no call may answer, in whatever order they took effect."""
    for each in calls:
        step, result = each.step, each.result
        if result is None or isinstance(step, CancelRequests):
            continue
        if result.error is not None and result.error.kind in {"http", "abandoned"}:
            continue
        if result.ok and session.in_flight.any_running and result.field("success") is False:
            continue  # what is in use cannot be forgotten
        yield from failed(step, result)
    refused = [each for each in calls if each.as_ordered.fate is Fate.REFUSED]
    ordered = [replace(each.as_ordered, excused=_is_excused(session, each.step)) for each in calls]
    if refused and not states_after(befores, ordered):
        told = "; ".join(f"{_call(each)} was refused: {_message(each)}" for each in refused)
        yield f"{told}; no order of the calls explains that"


def _is_excused(session: Session, step: Member) -> bool:
    """Whether requests are in the way of a call, which the model of the engine does not know."""
    return isinstance(step, ReleaseKvCacheMemory) and session.in_flight.any_running


def _unexplained(
    session: Session, befores: Collection[EngineState], calls: Sequence[_Made], seen: Observation
) -> str:
    """What is seen and no order explains, with what would explain it."""
    possible = _possible(befores, calls)
    known = (*befores, *possible)
    nearest = min((_against(session, state, seen, known=known) for state in possible), key=len)
    hint = next(_as_if(session, befores, calls, seen), "")
    return f"no order of {_calls(calls)} explains what is seen: {'; '.join(nearest)}{hint}"


def _as_if(
    session: Session, befores: Collection[EngineState], calls: Sequence[_Made], seen: Observation
) -> Iterator[str]:
    """Yield what would explain it: a call that did nothing, or one that did something all the same."""
    for each in calls:
        others = [other.believed for other in calls if other is not each]
        fate = each.as_ordered.fate
        if fate is Fate.DONE:
            possible = states_after(befores, others)
            told = "answered 200, had done nothing"
        elif fate is Fate.REFUSED:
            happened = replace(each.as_ordered, fate=Fate.DONE)
            possible = states_after(befores, [*others, happened])
            told = "was refused, had been carried out"
        else:
            continue
        if _explained(session, befores, possible, seen):
            yield f", as if {_call(each)}, which {told}"


def _calls(calls: Sequence[_Made]) -> str:
    """Overlapping calls in words."""
    if len(calls) == 1:
        return f"what may have become of {_call(calls[0])}"
    return f"the overlapping calls {', '.join(map(_call, calls))}"


def _call(made: _Made) -> str:
    return f"{made.result.method} {made.result.path}" if made.result else made.step.key()


def _message(made: _Made) -> str:
    return made.result.error.message if made.result and made.result.error else ""
