"""``sleepwake.async_guard``: the same guard for an engine that answers in an event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from sleepwake._guard import SWITCH, TURNED_OFF, GuardError, let_go, settings_of
from sleepwake._guard_child import Child
from sleepwake._guard_verdict import GuardVerdict, unasked, verdict_of
from sleepwake._guarded_llm import GuardedAsyncLLM, GuardedInThread
from sleepwake._noticing import Noticing

_P = ParamSpec("_P")
_R = TypeVar("_R")


class AsyncGuard:
    """Asks one engine the same few questions again, whenever it is told to.

    Requests of others go on meanwhile.  :func:`async_guard` makes one.
    """

    def __init__(self, llm: Any, *, lora_request: Any = None) -> None:
        self.directory: Path | None = None
        """The run directory: ``sleepwake check`` and ``sleepwake report`` read it."""
        self._lora_request = lora_request
        self._engine = GuardedAsyncLLM(llm, lora_request)
        self._child = Child()
        self._noticing = Noticing(llm)
        self._one_at_a_time = asyncio.Lock()
        self._release = weakref.finalize(self, let_go, self._noticing, self._child)

    async def begin(self, settings: Mapping[str, Any]) -> None:
        """Take the baseline."""
        try:
            began = await self._tell({"order": "begin", "facts": self._engine.facts(), **settings})
        except BaseException:
            await self.close()
            raise
        self.directory = Path(began["directory"])

    async def check(self) -> GuardVerdict:
        """Ask again, and compare with what was answered at first.

        Returns:
            The verdict.  It is inconclusive, and nothing is asked, where the engine is asleep.

        Raises:
            GuardError: the guard is closed, or its own process is gone.
        """
        began = time.monotonic()
        if await self._engine.is_asleep():
            return unasked("the engine is asleep, so nothing was asked: wake it before the check")
        told = await self._tell({"order": "check", "calls": self._noticing.take()})
        return verdict_of(told, seconds=time.monotonic() - began)

    async def expect_new_weights(self, *, reference: Any = None) -> None:
        """Say that the engine is to have other weights at the next check, so that its answers will differ.

        Args:
            reference: An ``AsyncLLM`` that has them already, or what would do for
                :meth:`Guard.expect_new_weights`; that is asked in another thread.

        Raises:
            GuardError: the reference is asleep, the guard is closed, or its own process is gone.
        """
        if reference is None:
            await self._tell({"order": "expect_new_weights", "reference": None})
            return
        kind = GuardedAsyncLLM if inspect.isasyncgenfunction(reference.generate) else GuardedInThread
        other: GuardedAsyncLLM | GuardedInThread = kind(reference, self._lora_request)
        if await other.is_asleep():
            raise GuardError("the reference is asleep: wake it, for its answers are needed")
        await self._tell({"order": "expect_new_weights", "reference": other.facts()}, reference=other)

    def step(self, function: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
        """Decorate a coroutine that puts the engine to sleep and wakes it: a check follows each call.

        What it returns raises :class:`NotCleanError` where the check says corrupt or degraded.
        """

        @functools.wraps(function)
        async def checked(*arguments: _P.args, **named: _P.kwargs) -> _R:
            result = await function(*arguments, **named)
            (await self.check()).raise_for_verdict()
            return result

        return checked

    async def close(self) -> None:
        """Give the engine its methods back and end the guard's own process; may be called twice."""
        await asyncio.to_thread(self._release)

    async def _tell(
        self, order: Mapping[str, Any], **others: GuardedAsyncLLM | GuardedInThread
    ) -> dict[str, Any]:
        if not self._release.alive:
            raise GuardError("the guard is closed")
        engines: Mapping[str, GuardedAsyncLLM | GuardedInThread] = {"guarded": self._engine, **others}
        async with self._one_at_a_time:
            return await self._child.carry_out_and_wait(
                order, lambda question: engines[question["of"]].answer(question)
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _NoGuard(AsyncGuard):
    """What :func:`async_guard` returns where guards are turned off."""

    def __init__(self) -> None:
        self.directory = None

    async def check(self) -> GuardVerdict:
        return unasked(TURNED_OFF)

    async def expect_new_weights(self, *, reference: Any = None) -> None:
        pass

    def step(self, function: Callable[_P, Awaitable[_R]]) -> Callable[_P, Awaitable[_R]]:
        return function

    async def close(self) -> None:
        pass


async def async_guard(
    llm: Any,
    *,
    prompts: Sequence[str | Sequence[int]] | None = None,
    max_tokens: int = 16,
    budget_tokens: int = 512,
    full_every: int = 10,
    lora_request: Any = None,
    checksums: bool = True,
    out: str | Path = "reports",
) -> AsyncGuard:
    """Guard an engine that answers in this event loop: take its baseline now, compare at every check.

    Args:
        llm: A ``vllm.AsyncLLM`` that is awake.
        prompts: As for :func:`sleepwake.guard`, and so are the others.
        max_tokens: How long an answer may be.
        budget_tokens: How many tokens a check may generate.
        full_every: Every so many checks one is full.
        lora_request: The adapter that is asked, as ``generate`` takes it; without it the base model.
        checksums: Whether the weights' checksums are read; meanwhile no request is answered.
        out: The folder that holds run directories.

    Raises:
        GuardError: this cannot be guarded.
    """
    if os.environ.get(SWITCH) == "off":
        return _NoGuard()
    if not inspect.iscoroutinefunction(getattr(llm, "sleep", None)):
        raise GuardError(f"{type(llm).__name__} is no vllm.AsyncLLM: `sleepwake.guard` takes a vllm.LLM")
    if await llm.is_sleeping():
        raise GuardError("the engine is asleep: wake it before it is guarded, for its answers are needed")
    guard = AsyncGuard(llm, lora_request=lora_request)
    await guard.begin(
        settings_of(
            prompts,
            max_tokens=max_tokens,
            budget_tokens=budget_tokens,
            full_every=full_every,
            checksums=checksums,
            out=out,
        )
    )
    return guard
