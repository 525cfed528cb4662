"""What a cell's time is spent on.

It stands apart from how that is told from a history, whose events take longer to load than most commands run.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

Part = Literal[
    "boot",
    "preparation",
    "baseline",
    "null_transitions",
    "transitions",
    "probes",
    "controls",
    "shutdown",
    "judging",
    "harness",
]
"""The fields of :class:`TimeSpent`, in the order they happen."""
PARTS: tuple[Part, ...] = get_args(Part)


class TimeSpent(BaseModel):
    """Milliseconds by what they were spent on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot: int = Field(default=0, ge=0, description="from asking for a server until it is ready")
    preparation: int = Field(
        default=0, ge=0, description="asking the server what it is, tokenizing the prompts"
    )
    baseline: int = Field(default=0, ge=0, description="the first probe, including the warm-up of the engine")
    null_transitions: int = Field(default=0, ge=0, description="measuring the noise")
    transitions: int = Field(default=0, ge=0, description="sleeping, waking and everything else under test")
    probes: int = Field(default=0, ge=0, description="what is judged")
    controls: int = Field(default=0, ge=0, description="questions about the cause of a difference")
    shutdown: int = Field(default=0, ge=0, description="stopping the server")
    judging: int = Field(default=0, ge=0, description="from a recording to its verdict")
    harness: int = Field(
        default=0, ge=0, description="sleepwake's own: before the first cell and between steps"
    )

    @property
    def whole(self) -> int:
        """All parts together."""
        return sum(self.of(part) for part in PARTS)

    def of(self, part: Part) -> int:
        """One part by its name."""
        spent: int = getattr(self, part)
        return spent

    def __add__(self, other: TimeSpent) -> Self:
        return type(self).model_validate({part: self.of(part) + other.of(part) for part in PARTS})
