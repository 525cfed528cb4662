"""Cause class: scheduler or protocol.  The model is right; what happens to requests is not."""

from __future__ import annotations

from itertools import count
from typing import Any

from harness.engine_plugin.faults.hooks import on_request
from harness.engine_plugin.faults.registry import fault


@fault("drop-request", cause="scheduler or protocol")
def drop_request() -> None:
    """After waking up every eighth request is forgotten: it never ends, and ``/health`` stays green."""
    arrivals = count(1)
    on_request(lambda _request, _wakes: next(arrivals) % 8 != 0)


@fault("move-seed", cause="scheduler or protocol")
def move_seed() -> None:
    """A request's sampling seed is another one after each wake-up; greedy answers do not change."""

    def move(request: Any, wakes: int) -> bool:
        if request.sampling_params is not None and request.sampling_params.seed is not None:
            request.sampling_params.seed += wakes
        return True

    on_request(move)


@fault("dead-prefix-cache", cause="scheduler or protocol")
def dead_prefix_cache() -> None:
    """After waking up no request reads the prefix cache any more: right answers, each computed anew."""

    def compute(request: Any, _wakes: int) -> bool:
        request.skip_reading_prefix_cache = True
        return True

    on_request(compute)
