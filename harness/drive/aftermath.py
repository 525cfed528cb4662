"""What a script leaves behind in the engine it was carried out on, if that does what it ought to."""

from __future__ import annotations

from harness.scenario.engine_state import EngineState
from harness.scenario.script import Step, flat_steps
from harness.scenario.steps.requests import StartRequests


def leaves_it_whole(script: tuple[Step, ...]) -> bool:
    """Whether the engine is as it was: no other weights, no adapter, no call that it had to refuse.

    Nor one that its client gave up.
    """
    return not any(
        step.leaves_a_trace or step.must_fail or step.abandoned is not None for step in flat_steps(script)
    )


def asks_without_weights(script: tuple[Step, ...]) -> bool:
    """Whether the engine is asked after it threw its weights away and before it loaded them again.

    What such answers leave in its caches is wrong, so the engine most probably serves nobody else.
    """
    engine = EngineState()
    for step in flat_steps(script):
        if engine.weights_lost and (step.asks or isinstance(step, StartRequests)):
            return True
        engine = step.leaves(engine)
    return False
