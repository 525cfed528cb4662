"""How calls of a sequence are put into flight at once, and what of the engine is certain afterwards."""

from __future__ import annotations

from collections.abc import Iterable

from harness.scenario.engine_state import EngineState
from harness.scenario.script import Step
from harness.scenario.steps.base import Abandon, CallOptions, Moment
from harness.scenario.steps.concurrently import MEMBERS, MOST_CALLS, Concurrently
from harness.scenario.steps.lifecycle import Pause, Sleep, WakeUp
from harness.scenario.steps.loading import LoadAdapter, ReloadWeights, UnloadAdapter
from harness.scenario.steps.requests import AbortRequests

MOST_STATES = 16
"""What an engine may be like at the most: with more, hardly anything would contradict."""

ABANDON = Abandon(after=0.2, within=5.0)

WELL_PENDING_S = 0.2
"""How long a call has been on its way when another comes: what the server does first takes less."""


def given_up(step: Step) -> Step:
    """The same call, whose client gives it up; what is no lifecycle call is as it was."""
    options = step.call_options
    if not isinstance(options, CallOptions) or options.must_fail:
        return step
    return step.model_copy(update={step.key(): options.model_copy(update={"abandon": ABANDON})})


def beside(before: Step, step: Step, *, while_pending: bool) -> Concurrently | None:
    """``step`` in flight together with the call or the calls before it; None where that cannot be.

    With ``while_pending`` it begins when the server has the last of them, if that waits for requests.
    """
    earlier = before.concurrently if isinstance(before, Concurrently) else (before,)
    members = [*earlier, step]
    if len(members) > MOST_CALLS or any(member.key() not in MEMBERS for member in members):
        return None
    last, keys = earlier[-1], [member.key() for member in earlier]
    if while_pending and _waits(last) and keys.count(last.key()) == 1:
        options = getattr(step, step.key())
        begins = Moment(while_pending=last.key(), after=WELL_PENDING_S)
        members[-1] = step.model_copy(update={step.key(): options.model_copy(update={"begins": begins})})
    return Concurrently.model_validate({"concurrently": members})


def _waits(step: Step) -> bool:
    """Whether a call is answered only when requests have ended."""
    match step:
        case Sleep(sleep=options):
            return options.mode == "wait"
        case Pause(pause=options):
            return options.mode == "wait"
        case _:
            return False


def has_odd_tags(step: WakeUp) -> bool:
    """Whether a wake-up names a tag twice, or one that vLLM does not know."""
    tags = step.wake_up.tags
    return len(set(tags)) < len(tags) or "unknown" in tags


def leaves_weights_unsure(step: Step) -> bool:
    """Whether it depends on the order of calls which weights there are after it, or whether there are any."""
    return isinstance(step, ReloadWeights) or (isinstance(step, Sleep) and step.sleep.level > 1)


def disturbs_requests(step: Step) -> bool:
    """Whether requests in flight may end otherwise because of it."""
    return isinstance(step, Sleep | Pause | AbortRequests | ReloadWeights | LoadAdapter | UnloadAdapter)


def each_once(states: Iterable[EngineState]) -> tuple[EngineState, ...]:
    """The states, each once, in order."""
    found: list[EngineState] = []
    for state in states:
        if state not in found:
            found.append(state)
    return tuple(found)
