"""What a watch may take of a server that has others to serve."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

HOUR_S = 3600.0


@dataclass(kw_only=True, eq=False)
class Spending:
    """Tokens that checks asked for and were answered with, and when.

    Attributes:
        most_tokens_per_hour: In any hour; None: as many as it takes.
        at_most_every_s: From one check to the next.
    """

    most_tokens_per_hour: int | None
    at_most_every_s: float
    _spent: deque[tuple[float, int]] = field(default_factory=deque)
    _last_check: float | None = None

    def spend(self, tokens: int, *, now: float) -> None:
        """So many more."""
        if self.most_tokens_per_hour is not None:
            self._spent.append((now, tokens))

    def checked(self, *, now: float) -> None:
        """A check has begun."""
        self._last_check = now

    def waits_for(self, tokens: int, *, now: float) -> str | None:
        """Why a check that may take so many tokens has to wait; None where it need not."""
        since = float("inf") if self._last_check is None else now - self._last_check
        if since < self.at_most_every_s:
            return f"the last check was {since:.0f} s ago, and one in {self.at_most_every_s:g} s is allowed"
        if self.most_tokens_per_hour is not None and self.in_the_last_hour(now) + tokens > (
            self.most_tokens_per_hour
        ):
            return (
                f"it may take {tokens} tokens, and {self.in_the_last_hour(now)} of the "
                f"{self.most_tokens_per_hour} that are allowed in an hour are spent"
            )
        return None

    def in_the_last_hour(self, now: float) -> int:
        """Tokens spent within it."""
        while self._spent and self._spent[0][0] <= now - HOUR_S:
            self._spent.popleft()
        return sum(tokens for _, tokens in self._spent)
