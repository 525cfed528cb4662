"""``sleepwake.guard``: is the engine in this process, once it has slept, still the one that fell asleep?

This side holds the engine and nothing of the harness.  It asks the engine, notes what is done to it, and
hands both to a process of its own (:mod:`sleepwake._guard_child`), which records and judges.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar

from sleepwake._endpoint import GuardedEndpoint
from sleepwake._guard_child import Child, GuardError
from sleepwake._guard_verdict import GuardVerdict, GuardWitness, NotCleanError, unasked, verdict_of
from sleepwake._guarded_llm import GuardedLLM
from sleepwake._noticing import Noticing
from sleepwake._ray_actor import GuardedActor, is_actor

__all__ = ["Guard", "GuardError", "GuardVerdict", "GuardWitness", "NotCleanError", "guard"]

SWITCH = "SLEEPWAKE_GUARD"
"""Set to ``off``, guards do nothing."""
TURNED_OFF = f"guards are turned off ({SWITCH}=off)"

_Held: TypeAlias = GuardedLLM | GuardedActor | GuardedEndpoint
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Guard:
    """Asks one engine the same few questions again, whenever it is told to.

    Between two checks it only notes which lifecycle methods of the engine are called.  :func:`guard` makes
    one.
    """

    directory: Path | None
    """The run directory: ``sleepwake check`` and ``sleepwake report`` read it."""

    def __init__(
        self,
        llm: Any,
        settings: Mapping[str, Any],
        *,
        lora_request: Any = None,
        held_as: str | None = None,
    ) -> None:
        self._lora_request, self._held_as = lora_request, held_as
        self._child = Child()
        self._noticing = Noticing(llm)
        self._release = weakref.finalize(self, let_go, self._noticing, self._child)
        try:
            self._engine = self._held(llm)
            facts = self._engine.facts()
            self._require_awake()
            began = self._tell({"order": "begin", "facts": facts, **settings})
        except BaseException:
            self.close()
            raise
        self.directory = Path(began["directory"])

    def _require_awake(self) -> None:
        if self._engine.is_asleep:
            raise GuardError("the engine is asleep: wake it before it is guarded, for its answers are needed")

    def check(self) -> GuardVerdict:
        """Ask again, and compare with what was answered at first.

        Returns:
            The verdict.  It is inconclusive, and nothing is asked, where the engine is asleep.

        Raises:
            GuardError: the guard is closed, or its own process is gone.
        """
        began = time.monotonic()
        if self._engine.is_asleep:
            return unasked("the engine is asleep, so nothing was asked: wake it before the check")
        told = self._tell({"order": "check", "calls": self._noticing.take()})
        return verdict_of(told, seconds=time.monotonic() - began)

    def expect_new_weights(self, *, reference: Any = None) -> None:
        """Say that the engine is to have other weights at the next check, so that its answers will differ.

        Args:
            reference: An engine that has the new weights already, awake and built as the guarded one is. It
                is asked at once, and the guarded one must answer as it does from now on. Without one the next
                check takes a new baseline and is inconclusive, for nothing can be compared with it; only what
                outlived the old weights in the prefix cache is found.

        Raises:
            GuardError: the reference is asleep, the guard is closed, or its own process is gone.
        """
        if reference is None:
            self._tell({"order": "expect_new_weights", "reference": None})
            return
        if isinstance(reference, str):
            raise GuardError("a reference is an engine or a model in this process, or an actor: no endpoint")
        other = self._held(reference)
        if other.is_asleep:
            raise GuardError("the reference is asleep: wake it, for its answers are needed")
        self._tell({"order": "expect_new_weights", "reference": other.facts()}, reference=other)

    def step(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Decorate a function that puts the engine to sleep and wakes it: a check follows each call.

        The function it returns raises :class:`NotCleanError` where the check says corrupt or degraded.
        """

        @functools.wraps(function)
        def checked(*arguments: _P.args, **named: _P.kwargs) -> _R:
            result = function(*arguments, **named)
            self.check().raise_for_verdict()
            return result

        return checked

    def close(self) -> None:
        """Give the engine its methods back and end the guard's own process; may be called twice."""
        self._release()

    def _held(self, llm: Any) -> _Held:
        if isinstance(llm, str):
            return GuardedEndpoint(llm, self._child)
        if is_actor(llm):
            return GuardedActor(llm, self._lora_request, held_as=self._held_as)
        return GuardedLLM(llm, self._lora_request)

    def _tell(self, order: Mapping[str, Any], **others: _Held) -> dict[str, Any]:
        if not self._release.alive:
            raise GuardError("the guard is closed")
        engines = {"guarded": self._engine, **others}
        return self._child.carry_out(order, lambda question: engines[question["of"]].answer(question))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _NoGuard(Guard):
    """What :func:`guard` returns where guards are turned off: nothing is asked, noted, started or written."""

    def __init__(self) -> None:
        self.directory = None

    def check(self) -> GuardVerdict:
        return unasked(TURNED_OFF)

    def expect_new_weights(self, *, reference: Any = None) -> None:
        pass

    def step(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        return function

    def close(self) -> None:
        pass


def guard(
    llm: Any,
    *,
    prompts: Sequence[str | Sequence[int]] | None = None,
    max_tokens: int = 16,
    budget_tokens: int = 512,
    full_every: int = 10,
    lora_request: Any = None,
    held_as: str | None = None,
    checksums: bool = True,
    out: str | Path = "reports",
) -> Guard:
    """Guard an engine in this process: take its baseline now, and compare with it at every check.

    Args:
        llm: A ``vllm.LLM`` that is awake, the handle of an actor of Ray that is one or holds one, or the
            address of an OpenAI endpoint of vLLM. A key for that is taken from the environment, as
            ``SLEEPWAKE_API_KEY``.
        prompts: What it is asked, as texts of a user or as token ids; by default some of those that ship.
            They should be longer than two blocks of the KV cache.
        max_tokens: How long an answer may be.
        budget_tokens: How many tokens a check may generate. A finding is followed by further questions.
        full_every: Every so many checks one is full, and so is the first; the others ask two prompts for four
            tokens each. An engine that does not compute in float32 has full ones alone.
        lora_request: The adapter that is asked, as ``generate`` takes it; without it the base model.
        held_as: The attribute under which the actor holds the ``LLM``, for example ``llm``.
        checksums: Whether the weights' checksums are read, where the engine tells them: now, of a reference,
            and of an engine that is found damaged. They name weights that did not arrive.
        out: The folder that holds run directories.

    Raises:
        GuardError: this cannot be guarded.
    """
    if os.environ.get(SWITCH) == "off":
        return _NoGuard()
    _require_llm(llm)
    settings = settings_of(
        prompts,
        max_tokens=max_tokens,
        budget_tokens=budget_tokens,
        full_every=full_every,
        checksums=checksums,
        out=out,
    )
    return Guard(llm, settings, lora_request=lora_request, held_as=held_as)


def settings_of(
    prompts: Sequence[str | Sequence[int]] | None,
    *,
    max_tokens: int,
    budget_tokens: int,
    full_every: int,
    checksums: bool,
    out: str | Path,
) -> dict[str, Any]:
    """What a guard is asked for, as plain data."""
    asked = None if prompts is None else [each if isinstance(each, str) else list(each) for each in prompts]
    return {
        "prompts": asked,
        "max_tokens": max_tokens,
        "budget_tokens": budget_tokens,
        "full_every": full_every,
        "checksums": checksums,
        "out": str(Path(out).absolute()),
    }


def _require_llm(llm: Any) -> None:
    if isinstance(llm, str) or is_actor(llm):
        return
    if inspect.iscoroutinefunction(getattr(llm, "sleep", None)):
        raise GuardError(f"{type(llm).__name__} is asynchronous: use `await sleepwake.async_guard(llm)`")
    if not all(hasattr(llm, name) for name in ("generate", "get_tokenizer", "get_default_sampling_params")):
        raise GuardError(f"{type(llm).__name__} is no vllm.LLM: it takes one that generates text")


def let_go(noticing: Noticing, child: Child) -> None:
    """Leave nothing behind."""
    noticing.stop()
    child.end()
