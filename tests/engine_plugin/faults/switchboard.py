"""Plants the faults of a worker while the engine runs, so that one boot serves many of them.

Given to an engine as ``SLEEPWAKE_FAULT=.../switchboard.py:install``.  ``/collective_rpc`` reaches the two
methods that it adds to the worker: ``plant_fault(name)`` and ``heal()``.
"""

from __future__ import annotations

import functools
from typing import Any
from unittest.mock import patch

from harness.engine_plugin import compat
from harness.engine_plugin.faults import find
from harness.engine_plugin.faults.hooks import on_worker_start


def install() -> None:
    """Add the two methods to each worker."""
    on_worker_start(offer)


def install_beside_keep_prefix_cache() -> None:
    """The same, in an engine whose prefix cache survives sleep."""
    find("keep-prefix-cache")()
    install()


def offer(worker: Any) -> None:
    """Add the two methods to ``worker``."""
    model = worker.model_runner.model
    healthy = [(vars(owner), dict(vars(owner))) for owner in (worker, model)]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def heal() -> None:
        for attributes, at_start in healthy:
            attributes.clear()
            attributes.update(at_start)
        for buffer, content in buffers:
            buffer.copy_(content)
        offer(worker)

    worker.heal = heal
    worker.plant_fault = functools.partial(plant_into, worker)


def plant_into(worker: Any, name: str) -> None:
    """Plant a fault as if ``worker`` had just been started."""

    class Starting:
        def __init__(self) -> None:
            self.worker = worker

        def initialize_from_config(self) -> None:
            pass

    with patch.object(compat, "worker_wrapper", lambda: Starting):
        find(name)()
    Starting().initialize_from_config()
