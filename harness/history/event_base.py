"""What all events of a history share, and how a call to the engine fails."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value that holds what it was given and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")


UNTIMELY = frozenset({"timeout", "hang"})
"""Failures that are about time."""


class CallFailure(Frozen):
    """Why an HTTP call has no usable answer."""

    kind: Literal["timeout", "hang", "abandoned", "connection", "http", "protocol"]
    """``timeout``: nothing in time, which a slow engine explains.  ``hang``: the engine stood still.
    ``abandoned``: its client gave it up, as the script says."""
    message: str
    status: int | None = None


LONGEST_S = 1e9
"""No cell goes on for thirty years: what says so is damaged."""


class Timed(Frozen):
    """Something that happened at a moment of the cell."""

    t: float = Field(ge=0, le=LONGEST_S, description="seconds since the cell started")
