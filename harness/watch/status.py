"""How a watch stands: what its metrics and its readiness are read from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from harness.check.result import CellResult
from harness.watch.noticing import NOTHING, Happening

OUTCOMES = ("clean", "corrupt", "degraded", "inconclusive")


@dataclass(kw_only=True, eq=False)
class Status:
    """All that is told of a watch while it goes on."""

    has_baseline: bool = False
    answers: bool = True
    """Whether the server told its state when it was last looked at."""
    rests: bool = False
    pending: Happening = NOTHING
    """What was noticed and not yet found sound, or judged otherwise."""
    last: CellResult | None = None
    """The last judgement; None before the first, and after a new baseline."""
    checks: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    wake_ups: int = 0
    restarts: int = 0
    weight_updates: int = 0
    adapter_changes: int = 0
    without_own_check: int = 0
    """Wake-ups that were not judged by themselves, because another one came first."""
    given_up: int = 0
    """Checks, and baselines, that something came in between of."""
    last_wake_up_at: float | None = None
    last_check_at: float | None = None
    """Both in seconds since 1970."""
    seconds: float = 0.0
    tokens: int = 0
    """What was spent on baselines and checks."""
    noise_nat: float | None = None
    """How far answers differ by themselves."""
    unsent: int = 0
    """Webhook calls that failed."""

    @property
    def not_ready(self) -> str | None:
        """Why the server has not been found sound since the last that happened to it; None where it has."""
        if not self.has_baseline:
            return "there is no baseline yet"
        if not self.answers:
            return "the server does not answer"
        if self.rests:
            return "the engine rests"
        if self.pending:
            return f"not checked yet: {self.pending.words}"
        if self.last is not None and outcome_of(self.last) != "clean":
            return f"{outcome_of(self.last)}: {self.last.reason}"
        return None

    def take_in(self, happened: Happening, *, now: float) -> None:
        """Count what was noticed at ``now``, seconds since 1970."""
        self.pending += happened
        self.wake_ups += happened.wake_ups
        self.restarts += happened.restarted
        self.weight_updates += happened.weights is not None
        self.adapter_changes += len(happened.adapters_added | happened.adapters_removed)
        if happened.wake_ups:
            self.last_wake_up_at = now

    def judged(self, result: CellResult, *, now: float) -> None:
        """Count a judgement."""
        self.last, self.last_check_at = result, now
        self.checks[outcome_of(result)] += 1


def outcome_of(result: CellResult) -> str:
    """The verdict in one word; what has none cannot tell."""
    return result.verdict.value if result.verdict else "inconclusive"
