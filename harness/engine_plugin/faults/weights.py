"""Cause class: lost weights.  The checksums of ``/weight_checker`` show all of these."""

from __future__ import annotations

from harness.engine_plugin import compat
from harness.engine_plugin.faults.hooks import Worker, after_weights_return
from harness.engine_plugin.faults.registry import fault


@fault("lose-weights", cause="lost weights")
def lose_weights() -> None:
    """Weights are zero where they should have returned, after level 1 and after a level-2 reload.

    Any other ``reload_weights`` heals the engine.
    """
    after_weights_return(_zero_parameters)


@fault("lose-weights-of-one-rank", cause="lost weights", ranks=3)
def lose_weights_of_one_rank() -> None:
    """Weights are zero on the last of several ranks, and as they should be on the others."""
    after_weights_return(lambda worker: _zero_parameters(worker) if _is_last_of_several(worker) else None)


@fault("detune-one-weight", cause="lost weights")
def detune_one_weight() -> None:
    """One weight matrix of many returns 2% too large."""
    after_weights_return(_detune)


@fault("detune-from-third-cycle", cause="lost weights")
def detune_from_third_cycle() -> None:
    """The first two cycles are healthy; from the third on, one weight matrix returns 2% too large."""
    cycles = 0

    def count(worker: Worker) -> None:
        nonlocal cycles
        cycles += 1
        if cycles >= 3:  # noqa: PLR2004  (the third)
            _detune(worker)

    after_weights_return(count)


def _zero_parameters(worker: Worker) -> None:
    for model in compat.models(worker.model_runner):
        for parameter in model.parameters():
            parameter.data.zero_()


def _is_last_of_several(worker: Worker) -> bool:
    ranks = worker.parallel_config.world_size
    return bool(ranks > 1 and worker.rank == ranks - 1)


def _detune(worker: Worker) -> None:
    matrices = [
        parameter for parameter in compat.models(worker.model_runner)[0].parameters() if parameter.ndim > 1
    ]
    matrices[len(matrices) // 2].data.mul_(1.02)
