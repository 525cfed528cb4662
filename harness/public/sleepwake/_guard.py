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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from sleepwake._guard_child import Child, GuardError
from sleepwake._guarded_llm import GuardedLLM
from sleepwake._noticing import Noticing

__all__ = ["Guard", "GuardError", "GuardVerdict", "GuardWitness", "NotCleanError", "guard"]

SWITCH = "SLEEPWAKE_GUARD"
"""Set to ``off``, guards do nothing."""
TURNED_OFF = f"guards are turned off ({SWITCH}=off)"

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class GuardWitness:
    """The clearest single example of a changed answer."""

    prompt: str
    before: str
    after: str
    first_difference: int
    """Index of the first token that differs."""
    baseline_gap: float | None
    """How sure the engine had been of that token: its lead over the second likeliest, nat."""


@dataclass(frozen=True, kw_only=True)
class GuardVerdict:
    """What one check says."""

    verdict: str
    """``clean``, ``corrupt``, ``degraded`` or ``inconclusive``: a value of :class:`sleepwake.Verdict`."""
    cause: str | None
    """A value of :class:`sleepwake.Cause`; None where nothing is wrong."""
    reason: str
    """The verdict in one sentence; for a clean one, what could still hide."""
    witness: GuardWitness | None
    tokens: int
    """How many the engine generated for it."""
    seconds: float
    """How long the caller waited for it."""
    directory: Path | None
    """The recording that it was judged by."""

    def raise_for_verdict(self) -> None:
        """Go on unless the engine is known not to have come back the same.

        Raises:
            NotCleanError: it is corrupt or degraded.
        """
        if self.verdict in {"corrupt", "degraded"}:
            raise NotCleanError(self)


class NotCleanError(Exception):
    """The engine did not come back the same; ``verdict`` says how that is known."""

    def __init__(self, verdict: GuardVerdict) -> None:
        cause = f" ({verdict.cause})" if verdict.cause else ""
        super().__init__(f"{verdict.verdict}{cause}: {verdict.reason}")
        self.verdict = verdict


class Guard:
    """Asks one engine the same few questions again, whenever it is told to.

    Between two checks it only notes which lifecycle methods of the engine are called.  :func:`guard` makes
    one.
    """

    directory: Path | None
    """The run directory: ``sleepwake check`` and ``sleepwake report`` read it."""

    def __init__(self, llm: Any, settings: Mapping[str, Any], *, lora_request: Any = None) -> None:
        self._lora_request = lora_request
        self._engine = GuardedLLM(llm, lora_request)
        if self._engine.is_asleep:
            raise GuardError("the engine is asleep: wake it before it is guarded, for its answers are needed")
        self._child = Child()
        self._noticing = Noticing(llm)
        self._release = weakref.finalize(self, let_go, self._noticing, self._child)
        try:
            began = self._tell({"order": "begin", "facts": self._engine.facts(), **settings})
        except BaseException:
            self.close()
            raise
        self.directory = Path(began["directory"])

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
        other = GuardedLLM(reference, self._lora_request)
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

    def _tell(self, order: Mapping[str, Any], **others: GuardedLLM) -> dict[str, Any]:
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
    lora_request: Any = None,
    checksums: bool = True,
    out: str | Path = "reports",
) -> Guard:
    """Guard an engine in this process: take its baseline now, and compare with it at every check.

    Args:
        llm: A ``vllm.LLM`` that is awake.
        prompts: What it is asked, as texts of a user or as token ids; by default some of those that ship.
            They should be longer than two blocks of the KV cache.
        max_tokens: How long an answer may be.
        budget_tokens: How many tokens a check may generate. A finding is followed by further questions.
        lora_request: The adapter that is asked, as ``generate`` takes it; without it the base model.
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
        prompts, max_tokens=max_tokens, budget_tokens=budget_tokens, checksums=checksums, out=out
    )
    return Guard(llm, settings, lora_request=lora_request)


def settings_of(
    prompts: Sequence[str | Sequence[int]] | None,
    *,
    max_tokens: int,
    budget_tokens: int,
    checksums: bool,
    out: str | Path,
) -> dict[str, Any]:
    """What a guard is asked for, as plain data."""
    asked = None if prompts is None else [each if isinstance(each, str) else list(each) for each in prompts]
    return {
        "prompts": asked,
        "max_tokens": max_tokens,
        "budget_tokens": budget_tokens,
        "checksums": checksums,
        "out": str(Path(out).absolute()),
    }


def _require_llm(llm: Any) -> None:
    if isinstance(llm, str):
        raise GuardError(
            f"{llm} is a server: `sleepwake watch --endpoint {llm}` guards it; this takes an LLM"
        )
    if inspect.iscoroutinefunction(getattr(llm, "sleep", None)):
        raise GuardError(f"{type(llm).__name__} is asynchronous: use `await sleepwake.async_guard(llm)`")
    if not all(hasattr(llm, name) for name in ("generate", "get_tokenizer", "get_default_sampling_params")):
        raise GuardError(f"{type(llm).__name__} is no vllm.LLM: it takes one that generates text")


def let_go(noticing: Noticing, child: Child) -> None:
    """Leave nothing behind."""
    noticing.stop()
    child.end()


def unasked(reason: str) -> GuardVerdict:
    """What is said where nothing was asked."""
    return GuardVerdict(
        verdict="inconclusive",
        cause=None,
        reason=reason,
        witness=None,
        tokens=0,
        seconds=0.0,
        directory=None,
    )


def verdict_of(told: Mapping[str, Any], *, seconds: float) -> GuardVerdict:
    """What the guard's own process says, as an object."""
    witness = told["witness"]
    return GuardVerdict(
        verdict=told["verdict"],
        cause=told["cause"],
        reason=told["reason"],
        witness=None if witness is None else GuardWitness(**witness),
        tokens=told["tokens"],
        seconds=seconds,
        directory=Path(told["directory"]),
    )
