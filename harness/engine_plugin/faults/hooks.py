"""Where a fault takes hold of vLLM: the few seams that every version has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from harness.engine_plugin import compat

Wrapper = Callable[..., Any]


def wrap(owner: object, method: str, around: Wrapper) -> None:
    """Replace ``owner.method`` by ``around(original, *arguments)``.

    On a class ``self`` is the first argument; on an instance the original is bound already.
    """
    original = getattr(owner, method)

    @functools.wraps(original)
    def replacement(*arguments: Any, **options: Any) -> Any:
        return around(original, *arguments, **options)

    setattr(owner, method, replacement)


def on_worker_start(action: Callable[[Any], None]) -> None:
    """Call ``action(worker)`` in each worker process once its model is loaded and its KV cache allocated."""

    def around(original: Wrapper, wrapper: Any, *arguments: Any, **options: Any) -> Any:
        result = original(wrapper, *arguments, **options)
        action(wrapper.worker)
        return result

    wrap(compat.worker_wrapper(), "initialize_from_config", around)


def after_wake(tag: str, action: Callable[[Any], None]) -> None:
    """Call ``action(worker)`` each time the memory of ``tag`` has been woken up."""

    def start(worker: Any) -> None:
        def around(original: Wrapper, tags: list[str] | None = None) -> Any:
            result = original(tags)
            if tags is None or tag in tags:
                action(worker)
            return result

        wrap(worker, "wake_up", around)

    on_worker_start(start)
