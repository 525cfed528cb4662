"""What a script leaves behind in the engine it was carried out on, if that does what it ought to."""

from __future__ import annotations

from harness.scenario.schema import (
    CancelRequests,
    FinishRequests,
    NullTransition,
    Pause,
    Probe,
    ReleaseKvCacheMemory,
    ReloadOptions,
    ReloadWeights,
    ResetPrefixCache,
    Resume,
    Sleep,
    StartRequests,
    Step,
    WakeUp,
    flat_steps,
)

_UNDONE_BY_ITSELF = (
    *(Probe, NullTransition, Sleep, WakeUp, ResetPrefixCache),
    *(Pause, Resume, ReleaseKvCacheMemory, StartRequests, FinishRequests, CancelRequests),
)
"""Steps that a whole script takes back, or that nothing is left of."""

_DISCARDS = 2
"""The level of sleep that throws the weights away."""


def only_asks(step: Step) -> bool:
    """Whether a step does nothing to the engine that its answers could depend on."""
    return isinstance(step, Probe | NullTransition)


def leaves_it_whole(script: tuple[Step, ...]) -> bool:
    """Whether the engine is as it was: no other weights, no adapter, no call that it had to refuse."""
    return all(
        isinstance(step, _UNDONE_BY_ITSELF)
        or (isinstance(step, ReloadWeights) and step.reload_weights == ReloadOptions())
        for step in flat_steps(script)
    )


def asks_without_weights(script: tuple[Step, ...]) -> bool:
    """Whether the engine is asked after it threw its weights away and before it loaded them again.

    What such answers leave in its caches is wrong, so the engine most probably serves nobody else.
    """
    lost = False
    for step in flat_steps(script):
        match step:
            case Sleep(sleep=options):
                lost = lost or options.level == _DISCARDS
            case ReloadWeights(reload_weights=options):
                lost = lost and options.must_fail
            case Probe() | NullTransition() | StartRequests() if lost:
                return True
            case _:
                pass
    return False
