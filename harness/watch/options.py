"""What a user may ask of a watch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.reaching import NOTHING_SPECIAL, Access

Rebaseline = Literal["on-weight-update", "never"]


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """How a server is watched.

    Attributes:
        endpoint: The server.
        access: What it wants to be shown.
        every_s: From one look to the next.
        prompts: How many canaries are asked.
        max_tokens: Of each answer.
        keep: Sound checks that are kept on disk.
        once: End with the first judgement.
        rebaseline: When answers may change on purpose.
        baseline: The run directory of a watch whose baseline is taken over.
        at_most_every_s: From one check to the next.
        most_tokens_per_hour: Of all checks; None: as many as they take.
        listen: ``HOST:PORT`` at which metrics and readiness are told; None: nowhere.
        webhook: Where alarms are sent; None: nowhere.  May hold a secret.
    """

    endpoint: str
    access: Access = NOTHING_SPECIAL
    every_s: float = 1.0
    prompts: int = 24
    max_tokens: int = 32
    keep: int = 100
    once: bool = False
    rebaseline: Rebaseline = "on-weight-update"
    baseline: Path | None = None
    at_most_every_s: float = 0.0
    most_tokens_per_hour: int | None = None
    listen: str | None = None
    webhook: str | None = None

    def __post_init__(self) -> None:
        """Return if every number can be meant.

        Raises:
            UsageError: one cannot.
        """
        least = {"--every": (self.every_s, 0.05), "--prompts": (self.prompts, 1), "--keep": (self.keep, 0)}
        for option, (value, smallest) in {**least, "--max-tokens": (self.max_tokens, 1)}.items():
            if value < smallest:
                raise UsageError(f"{option}: {value:g} is too little", remedy=f"give {smallest:g} or more")
