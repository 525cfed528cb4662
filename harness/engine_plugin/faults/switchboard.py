"""Plants and heals faults while an engine runs, so that one boot serves many of them.

Given to an engine as ``SLEEPWAKE_FAULT=.../switchboard.py:install``.  ``/collective_rpc`` then knows two
more methods: ``plant_fault(name)`` and ``heal()``.  A fault is planted as if the engine had just been
started, so it shows after a sleep only; healing undoes patches and buffers, and weights need a
``reload_weights`` besides.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from harness.engine_plugin import compat
from harness.engine_plugin.faults import find
from harness.engine_plugin.faults.hooks import Wrapper, on_worker_start, wrap


def install() -> None:
    """Add the two methods to the front end, to the engine core and to each worker."""
    offer_in_front_end(compat.front_end(), compat.detokenizer())
    offer_in_core(compat.engine_core())
    on_worker_start(offer)


def offer_in_front_end(front_end: type, detokenizer: type) -> None:
    """Let the process that serves HTTP plant and heal its part before the others do theirs."""

    def collective_rpc(original: Wrapper, self: Any, method: Any, *arguments: Any, **options: Any) -> Any:
        if method == "plant_fault":
            plant_into_front_end(_argument(arguments, options))
        elif method == "heal":
            _restore(front_end, healthy)
            _restore(detokenizer, healthy_detokenizer)
        return original(self, method, *arguments, **options)

    wrap(front_end, "collective_rpc", collective_rpc)
    healthy, healthy_detokenizer = dict(vars(front_end)), dict(vars(detokenizer))


def plant_into_front_end(name: str) -> None:
    """Plant a fault into what serves HTTP; there is neither a scheduler nor a worker in its process."""
    engine_core = compat.engine_core()
    with (
        patch.object(compat, "worker_wrapper", lambda: type("NoWorker", (_Starting,), {})),
        patch.object(compat, "engine_core", lambda: type(engine_core.__name__, (engine_core,), {})),
    ):
        find(name)()


def offer_in_core(engine_core: type) -> None:
    """Let the process that schedules requests plant and heal its part before the workers do theirs."""

    def collective_rpc(original: Wrapper, self: Any, method: Any, *arguments: Any, **options: Any) -> Any:
        if method == "plant_fault":
            plant_into_core(_argument(arguments, options))
        elif method == "heal":
            _restore(engine_core, healthy)
        return original(self, method, *arguments, **options)

    wrap(engine_core, "collective_rpc", collective_rpc)
    healthy = dict(vars(engine_core))


def plant_into_core(name: str) -> None:
    """Plant a fault into the class that schedules requests; there is no worker in its process."""
    with patch.object(compat, "worker_wrapper", lambda: type("NoWorker", (_Starting,), {})), _no_front_end():
        find(name)()


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
    """Plant a fault as if ``worker`` had just been started; there is no scheduler in its process."""
    starting: type[_Starting] = type("Starting", (_Starting,), {})
    engine_core = compat.engine_core()
    with (
        patch.object(compat, "worker_wrapper", lambda: starting),
        patch.object(compat, "engine_core", lambda: type(engine_core.__name__, (engine_core,), {})),
        _no_front_end(),
    ):
        find(name)()
    starting(worker).initialize_from_config()


@contextmanager
def _no_front_end() -> Iterator[None]:
    """What is planted leaves alone what serves HTTP, which is in another process, or has its own part."""
    front_end, detokenizer = compat.front_end(), compat.detokenizer()
    with (
        patch.object(compat, "front_end", lambda: type(front_end.__name__, (front_end,), {})),
        patch.object(compat, "detokenizer", lambda: type(detokenizer.__name__, (detokenizer,), {})),
    ):
        yield


class _Starting:
    """Stands for the wrapper around a worker that has just been started."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def initialize_from_config(self) -> None:
        """Do nothing: the KV cache is there already."""


def _argument(arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The fault's name in a call of ``collective_rpc(method, timeout, args, kwargs)``."""
    keywords: dict[str, str] = options.get("kwargs") or (arguments[2] if len(arguments) > 2 else None) or {}  # noqa: PLR2004
    return keywords["name"]


def _restore(owner: type, healthy: dict[str, Any]) -> None:
    for name in [name for name in vars(owner) if name not in healthy]:
        delattr(owner, name)
    for name, value in healthy.items():
        if vars(owner).get(name) is not value:
            setattr(owner, name, value)
