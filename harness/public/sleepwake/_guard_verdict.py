"""What a guard's check says, as an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
    full: bool = False
    """Whether it was a full check, not a short one."""

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
        full=told["full"],
    )
