"""What was done to the engine, step by step, and how it looked from outside then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, JsonValue, model_validator

from harness.history import old_layout
from harness.history.event_base import CallFailure, Timed


class StepStarted(Timed):
    """A step of the script begins.

    ``step`` is its path: ``3[2].1`` is the third step, its cycle 2, its first inner step.
    """

    kind: Literal["step_started"] = "step_started"
    step: str
    action: str
    options: Mapping[str, JsonValue]
    cycle: int = Field(ge=0, description="0 before the first repetition, then 1, 2, ...")
    changes_engine: bool = Field(description="whether answers may differ after it")
    takes_memory: bool = Field(description="whether a healthy engine may hold more memory for good after it")
    only_adapter: str | None = Field(
        description="the one adapter whose answers it may change, by its name; None: all answers"
    )
    asleep_after: bool | None = Field(
        description="whether the engine must be asleep after it; None where nothing is expected"
    )
    seen: bool = Field(default=False, description="somebody else did it: it was noticed, not called for")

    @model_validator(mode="before")
    @classmethod
    def _of_an_old_layout(cls, value: object) -> object:
        return {**value, **old_layout.facts_of_step(value)} if isinstance(value, dict) else value


class StepFinished(Timed):
    """A step has ended.

    ``unconfirmed`` says in words which independent observation contradicts it, and ``missed`` which of its
    moments did not come, so that its calls did not meet as they were meant to.
    """

    kind: Literal["step_finished"] = "step_finished"
    step: str
    seconds: float
    unconfirmed: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()


class Call(Timed):
    """One lifecycle or control call and its answer, whatever it was.

    That of a method of an engine in its user's process is told under the path of the endpoint that does the
    same; it has no status, and no failure where it returned.
    """

    kind: Literal["call"] = "call"
    step: str | None
    method: str
    path: str
    parameters: Mapping[str, JsonValue]
    sends_json: bool = Field(description="whether the parameters are a JSON body; else they are the query")
    status: int | None
    body: JsonValue
    seconds: float
    failure: CallFailure | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_an_old_layout(cls, value: object) -> object:
        return {**value, **old_layout.facts_of_call(value)} if isinstance(value, dict) else value


class Observation(Timed):
    """The engine seen from outside, independent of what its calls answered."""

    kind: Literal["observation"] = "observation"
    step: str | None
    moment: Literal["before", "after", "settled"]
    is_sleeping: bool | None
    is_paused: bool | None = None
    is_healthy: bool | None = Field(default=None, description="whether /health answered with 200")
    sleep_state: str | None = Field(description="of the vllm:engine_sleep_state gauge")
    served: tuple[str, ...] | None = Field(
        default=None, description="the names /v1/models lists; asked for where the script loads adapters"
    )
    resident_bytes: int | None
    device_bytes: int | None
    memory_by_process: Mapping[str, int] = {}
    counters: Mapping[str, float] = {}


class WeightChecksums(Timed):
    """Checksum of every parameter as ``/weight_checker`` tells it; None where the version has none.

    Of buffers only workers with our CPU sleep mode tell.
    """

    kind: Literal["weight_checksums"] = "weight_checksums"
    step: str | None
    reference: str | None = Field(default=None, description="the baseline whose weights they ought to be")
    checksums: Mapping[str, str] | None
    version: str | None = Field(
        default=None, description="what /weight_info called the weights then; None where no update named any"
    )
    buffers: Mapping[str, str] | None = Field(
        default=None, description="checksum of every buffer of the model; None where nobody tells"
    )
