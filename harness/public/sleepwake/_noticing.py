"""Notices what is done to an engine in this process, without a change to what it does."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sleepwake._ray_actor import is_actor

NOTICED = (
    "sleep",
    "wake_up",
    "collective_rpc",
    "apply_model",
    "reset_prefix_cache",
    "reset_mm_cache",
    "release_kv_cache_memory",
    "start_weight_update",
    "update_weights",
    "finish_weight_update",
    "pause_generation",
    "resume_generation",
)
"""Methods of an engine that may change what it answers."""

_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)
"""Whether a call is under way here: an ``AsyncLLM`` updates its weights by calls of its own methods."""

_LONGEST = 200
"""Characters of a parameter that are kept."""


class Noticing:
    """Stands in for methods of one object, passes every call on, and keeps what was called and when."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._calls: list[dict[str, Any]] = []
        self._placed: dict[str, Any] = {}
        for name in () if is_actor(llm) else NOTICED:  # a handle's methods are called by `.remote`
            original = getattr(llm, name, None)
            if callable(original):
                self._placed[name] = original
                setattr(llm, name, self._passing_on(name, original))

    def take(self) -> list[dict[str, Any]]:
        """The calls since the last time, in order; ``ago`` says how many seconds ago each began."""
        calls, self._calls = self._calls, []
        now = time.monotonic()
        return [{"ago": now - call.pop("began"), **call} for call in calls]

    def stop(self) -> None:
        """Take every method's place back."""
        for name, original in self._placed.items():
            if inspect.ismethod(original) and original.__self__ is self._llm:
                delattr(self._llm, name)  # its class has it
            else:
                setattr(self._llm, name, original)
        self._placed = {}

    def _passing_on(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*arguments: Any, **named: Any) -> Any:
            with self._keeping(name, _parameters(original, arguments, named)) as told:
                told["result"] = result = original(*arguments, **named)
            return result

        @functools.wraps(original)
        async def call_and_wait(*arguments: Any, **named: Any) -> Any:
            with self._keeping(name, _parameters(original, arguments, named)) as told:
                told["result"] = result = await original(*arguments, **named)
            return result

        return call_and_wait if inspect.iscoroutinefunction(original) else call

    @contextmanager
    def _keeping(self, name: str, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Keep a call that is carried out within it, whatever becomes of it; not what it calls itself."""
        if _INSIDE.get():
            yield {}
            return
        inside = _INSIDE.set(True)
        began = time.monotonic()
        told: dict[str, Any] = {
            "name": name,
            "method": f"{type(self._llm).__name__}.{name}",
            "parameters": parameters,
            "began": began,
            "failure": None,
            "result": None,
        }
        try:
            yield told
        except BaseException as error:
            told["failure"] = f"{type(error).__name__}: {error}"[:_LONGEST]
            raise
        finally:
            _INSIDE.reset(inside)
            told["seconds"] = time.monotonic() - began
            told["result"] = told["result"] if isinstance(told["result"], bool) else None
            self._calls.append(told)


def _parameters(
    original: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """What a call was given, by name, as far as it is plain."""
    try:
        given = inspect.signature(original).bind(*arguments, **named).arguments
    except (TypeError, ValueError):
        return {}
    return {name: _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value[:_LONGEST]
    if isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value[:_LONGEST]):
        return [_plain(each) for each in value[:_LONGEST]]
    # Tensors and paths, and whatever else stays where it is: the name of a function tells enough.
    return getattr(value, "__name__", type(value).__name__)
