"""The steps that send requests beside the script and see to their end."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from harness.scenario.steps.base import BaseStep, CallOptions, Name, Overlapping, Strict
from harness.vllm_api.versions import Feature


class StartRequestsOptions(Strict):
    """Requests that are sent and not waited for."""

    name: Name = Field(description="by which `finish_requests` or `cancel_requests` means them")
    count: int | None = Field(
        default=None, ge=1, description="how many of the prompts are sent, all at once; all without it"
    )
    until: Literal["running", "sent"] | None = Field(
        default=None,
        description="when the script goes on: the first token of each was seen, or the server has them; "
        "without it `running` where the engine is awake, `sent` where it rests",
    )
    adapter: Name | None = Field(
        default=None, description="the loaded adapter that is asked, by its name; without it the base model"
    )
    same_as: Name | None = Field(
        default=None,
        description="the earlier baseline that `expect: same` means; without it the script's first probe",
    )
    kinds: bool = Field(
        default=False,
        description="a round of the scenario's other kinds of requests as well; judged with `expect: same`",
    )


class FinishRequestsOptions(Strict):
    """What must have become of requests that were started."""

    name: Name = Field(description="of their `start_requests`")
    expect: Literal["same", "aborted", "ended"] = Field(
        default="same",
        description="the baseline's answers; ends with the finish reason `abort`; or any end whatever",
    )
    within: float = Field(default=60.0, gt=0, description="seconds from this step on; then they are given up")


class CancelRequestsOptions(Overlapping):
    """Requests whose clients leave before they have their answers."""

    name: Name = Field(description="of their `start_requests`")


class StartRequests(BaseStep):
    """Send prompts as streams and go on while they are answered."""

    start_requests: StartRequestsOptions

    needs_async: ClassVar[bool] = True
    changes_engine: ClassVar[bool] = False


class FinishRequests(BaseStep):
    """Wait until requests have ended, each in the way that is expected."""

    finish_requests: FinishRequestsOptions

    needs_async: ClassVar[bool] = True
    changes_engine: ClassVar[bool] = False


class AbortRequests(BaseStep):
    """Have the engine end every request that it holds, as trainers do at the end of a step."""

    abort_requests: CallOptions

    needs_async: ClassVar[bool] = True
    takes_memory: ClassVar[bool] = False
    feature: ClassVar[Feature | None] = Feature.ABORT_REQUESTS


class CancelRequests(BaseStep):
    """Close the connections of requests, as clients do that give up."""

    cancel_requests: CancelRequestsOptions

    needs_async: ClassVar[bool] = True
    changes_engine: ClassVar[bool] = False
