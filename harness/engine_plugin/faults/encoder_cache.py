"""Cause class: encoder cache.  Pictures that the engine has seen before are hurt, and no others."""

from __future__ import annotations

from harness.engine_plugin.faults.hooks import Worker, after_wake, keep_through_sleep
from harness.engine_plugin.faults.registry import fault

CAUSE = "encoder cache"


@fault("lose-encoder-outputs", cause=CAUSE, pictures=True)
def lose_encoder_outputs() -> None:
    """Sleep at level 1 keeps the encoder cache's entries and loses what they hold.

    What the founding bug was for the prefix cache.  After level 2 the weights are loaded again, which empties
    the worker's half of the cache: with the scheduler's half kept, the engine would only die.
    """
    keep_through_sleep(lambda core: (core, "reset_encoder_cache"), levels=(1,))
    after_wake("weights", _blank)


def _blank(worker: Worker) -> None:
    import torch

    with torch.inference_mode():
        for output in worker.model_runner.encoder_cache.values():
            output.zero_()
