"""Where a fault takes hold of vLLM: the few seams that every version has.

All of them stay quiet until the engine has really slept: a level-0 sleep, which touches no memory, does not
count.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.engine_plugin import compat

if TYPE_CHECKING:
    from torch import Tensor

Wrapper = Callable[..., Any]
Worker = Any  # vLLM's worker: CPU or GPU, of any version
Action = Callable[[Worker], None]


def wrap(owner: object, method: str, around: Wrapper) -> None:
    """Replace ``owner.method`` by ``around(original, *arguments)``.

    On a class ``self`` is the first argument; on an instance the original is bound already.
    """
    original = getattr(owner, method)

    @functools.wraps(original)
    def replacement(*arguments: Any, **options: Any) -> Any:
        return around(original, *arguments, **options)

    setattr(owner, method, replacement)


def on_worker_start(action: Action) -> None:
    """Call ``action(worker)`` in each worker process once its model is loaded and its KV cache allocated."""

    def around(original: Wrapper, wrapper: Any, *arguments: Any, **options: Any) -> Any:
        result = original(wrapper, *arguments, **options)
        action(wrapper.worker)
        return result

    wrap(compat.worker_wrapper(), "initialize_from_config", around)


def on_wake(worker: Worker, tag: str, action: Callable[[], object]) -> None:
    """Call ``action`` each time the memory of ``tag``, given back by a sleep, has been woken up."""
    asleep = False

    def sleep(original: Wrapper, level: int = 1) -> None:
        nonlocal asleep
        original(level)
        asleep = level >= 1

    def wake_up(original: Wrapper, tags: list[str] | None = None) -> None:
        nonlocal asleep
        original(tags)
        if asleep and (tags is None or tag in tags):
            asleep = False
            action()

    wrap(worker, "sleep", sleep)
    wrap(worker, "wake_up", wake_up)


def keep_through_sleep(
    reset: Callable[[Any], tuple[object, str]], *, levels: tuple[int, ...] = (1, 2), answer: object = None
) -> None:
    """Leave one reset out of those by which the engine core empties its caches for a sleep.

    ``reset`` gets the engine core and names an object and its method, which then, for a sleep of these
    ``levels``, does nothing but return ``answer``.  Whoever asks for that reset at another time has it.
    """
    falling_asleep = False  # from the call of sleep to its resets, which wait for running requests to end

    def sleep(original: Wrapper, self: Any, level: int = 1, *arguments: Any, **options: Any) -> Any:
        nonlocal falling_asleep
        falling_asleep = level in levels
        return original(self, level, *arguments, **options)

    def reset_caches(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> None:
        nonlocal falling_asleep
        if not falling_asleep:
            original(self, *arguments, **options)
            return
        falling_asleep = False
        owner, method = reset(self)
        setattr(owner, method, lambda *_, **__: answer)
        try:
            original(self, *arguments, **options)
        finally:
            delattr(owner, method)  # the class's own method again

    wrap(compat.engine_core(), "sleep", sleep)
    wrap(compat.engine_core(), "_reset_caches", reset_caches)


def after_wake(tag: str, action: Action) -> None:
    """Call ``action(worker)`` in each worker process at each :func:`on_wake` of ``tag``."""
    on_worker_start(lambda worker: on_wake(worker, tag, lambda: action(worker)))


def after_weights_return(action: Action) -> None:
    """Call ``action(worker)`` each time the weights are complete again after a sleep.

    That is at the wake-up from level 1, and at the first ``reload_weights`` after a level-2 sleep.
    """

    def start(worker: Worker) -> None:
        slept_at = 0  # the level of the sleep that the weights have not returned from

        def sleep(original: Wrapper, level: int = 1) -> None:
            nonlocal slept_at
            original(level)
            slept_at = level

        def wake_up(original: Wrapper, tags: list[str] | None = None) -> None:
            original(tags)
            if slept_at == 1 and (tags is None or "weights" in tags):
                returned()

        def reload_weights(original: Wrapper, *arguments: Any, **options: Any) -> None:
            original(*arguments, **options)
            if slept_at == 2:  # noqa: PLR2004  (the level)
                returned()

        def returned() -> None:
            nonlocal slept_at
            slept_at = 0
            action(worker)

        wrap(worker, "sleep", sleep)
        wrap(worker, "wake_up", wake_up)
        wrap(worker, "reload_weights", reload_weights)

    on_worker_start(start)


def counted_wakes(worker: Worker) -> Callable[[], int]:
    """A function that says how often this worker's weights have been woken up."""
    wakes = 0

    def count() -> None:
        nonlocal wakes
        wakes += 1

    on_wake(worker, "weights", count)
    return lambda: wakes


def on_logits(change: Callable[[Tensor, Any], Tensor]) -> None:
    """From the first wake-up on, sample from ``change(logits, input_batch)`` instead of from the logits.

    ``logits`` has one row a request, in the order of ``input_batch``.  Prompt logprobs go unchanged.
    """

    def start(worker: Worker) -> None:
        wakes = counted_wakes(worker)

        def compute_logits(original: Wrapper, *arguments: Any, **options: Any) -> Any:
            logits = original(*arguments, **options)
            batch = worker.model_runner.input_batch
            return change(logits, batch) if wakes() and len(logits) == batch.num_reqs else logits

        wrap(worker.model_runner.model, "compute_logits", compute_logits)

    on_worker_start(start)


def on_request(accept: Callable[[Any, int], bool]) -> None:
    """From the first wake-up on, schedule a request only if ``accept(request, wakes)``; it may change it."""
    wakes = 0

    def wake_up(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal wakes
        wakes += bool(self.model_executor.is_sleeping)
        return original(self, *arguments, **options)

    def add_request(original: Wrapper, self: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        if not wakes or accept(request, wakes):
            return original(self, request, *arguments, **options)
        return None

    wrap(compat.engine_core(), "wake_up", wake_up)
    wrap(compat.engine_core(), "add_request", add_request)


def front_end_wakes() -> Callable[[], bool]:
    """A function that says, in the process that serves HTTP, whether the engine slept and was woken up."""
    asleep = woken = False

    def sleep(original: Wrapper, self: Any, level: int = 1, *arguments: Any, **options: Any) -> Any:
        nonlocal asleep
        asleep = level >= 1
        return original(self, level, *arguments, **options)

    def wake_up(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal woken
        woken = woken or asleep
        return original(self, *arguments, **options)

    wrap(compat.front_end(), "sleep", sleep)
    wrap(compat.front_end(), "wake_up", wake_up)
    return lambda: woken
