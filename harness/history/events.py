"""What a history is made of: one frozen event per line of ``history.jsonl``.

A history is complete in itself.  Whatever a checker needs (the script, the
prompts, the end-of-sequence ids, what was emulated) is an event, so that judging
never needs the server, the scenario file or the clock.

Times are seconds since the cell started, on a monotonic clock.

Here is how the cell and its server fared, and the list of all events.  What was asked and came back is in
``passes``, what was done to the engine and seen of it in ``observations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from harness.history.event_base import LONGEST_S, CallFailure, Timed
from harness.history.kinds import KindAnswered
from harness.history.observations import Call, Observation, StepFinished, StepStarted, WeightChecksums
from harness.history.passes import (
    Answer,
    PassStarted,
    PromptsPrepared,
    RequestEnded,
    RequestRunning,
    RequestStarted,
    TokenTexts,
    Waited,
)

FORMAT_VERSION = 1

CERTAIN = "corrupt, and why, whatever they would show"
"""Why the further cycles of a repetition are left out."""


class CellStarted(Timed):
    """The first event: what is about to be run, complete enough to judge by."""

    kind: Literal["cell_started"] = "cell_started"
    format: int = FORMAT_VERSION
    run: str
    cell: str
    scenario: str
    why: str
    sources: tuple[str, ...]
    arm: str
    arm_args: tuple[str, ...]
    arm_env: Mapping[str, str]
    script: tuple[JsonValue, ...]
    max_tokens: int
    temperature: float
    concurrency: int
    fault: str | None
    started_at: str = Field(description="wall clock, ISO 8601 with offset")

    @property
    def batch_invariant(self) -> bool:
        """Whether the engine was asked to answer alike whatever else is in a batch (vllm#27433)."""
        return self.arm_env.get("VLLM_BATCH_INVARIANT") == "1"


class ServerReady(Timed):
    """A server answers: what it is, how it was started and how long that took."""

    kind: Literal["server_ready"] = "server_ready"
    runtime: str
    command: str
    vllm_version: str | None
    image: str | None = None
    image_digest: str | None = None
    boot_seconds: float = Field(ge=0, le=LONGEST_S)
    emulated: tuple[str, ...] = ()
    configuration: JsonValue = None
    environment: JsonValue = Field(
        default=None, description="what the server says of its system: libraries, processor, GPUs, variables"
    )
    shared_with: tuple[str, ...] = ()
    """The cells it served before this one, the first of which booted it; its log is in that one's folder."""


class FirstTokensTimed(Timed):
    """How long requests for one token took that were alone, one after the other, of a prompt not cached."""

    kind: Literal["first_tokens_timed"] = "first_tokens_timed"
    step: str | None
    prompt: str
    seconds: tuple[float, ...] = Field(min_length=1)


class FirstTokenMissing(Timed):
    """A request for one token that was alone, and was not answered."""

    kind: Literal["first_token_missing"] = "first_token_missing"
    step: str | None
    prompt: str
    seconds: float = Field(ge=0, le=LONGEST_S)
    failure: CallFailure


class HarnessStopped(Timed):
    """The harness itself did not run: no time that reaches over this can be judged."""

    kind: Literal["harness_stopped"] = "harness_stopped"
    seconds: float = Field(ge=0, description="for how long, beyond what it computed itself")
    suspended_seconds: float = Field(default=0.0, description="of these, as long as the machine slept")
    clock_jump_seconds: float = Field(
        default=0.0, description="by how much the wall clock was set meanwhile; we measure by another"
    )


class MachineLoad(Timed):
    """How busy the machine was while a pass or a lifecycle call was timed, and with whose work.

    Seconds of one processor, but for ``seconds``, which are those of the clock.
    """

    kind: Literal["machine_load"] = "machine_load"
    step: str | None
    pass_number: int | None = Field(default=None, description="of the pass; None: a call of the step")
    seconds: float = Field(ge=0, description="how long it was looked at")
    cores: int = Field(ge=1, description="processors of the machine")
    busy_seconds: float = Field(
        allow_inf_nan=False, description="all that was computed, and what its host took away"
    )
    own_seconds: float = Field(allow_inf_nan=False, description="of these, the harness's")
    engine_seconds: float = Field(allow_inf_nan=False, description="of these, the server's processes'")
    throttled_seconds: float | None = Field(
        default=None, description="for how long the control group was held back; None where it does not say"
    )

    @property
    def others_seconds(self) -> float:
        """What neither the harness nor the server computed; of a short time it may be less than nothing.

        A machine counts in ticks, its processes more finely.
        """
        return self.busy_seconds - self.own_seconds - self.engine_seconds


class RequestsCounted(Timed):
    """What a server that is not ours counted while the cell ran: everybody's requests.

    None where it does not count them.
    """

    kind: Literal["requests_counted"] = "requests_counted"
    ended: int | None = Field(description="requests that came to an end, whatever that was")
    aborted: int | None = Field(description="those among them that were ended early")
    own: int = Field(description="requests that the cell sent")
    under_way: int = Field(default=0, description="requests of others that had not ended by then")


class CellUnavailable(Timed):
    """The release under test lacks what the script needs, so the script was not begun."""

    kind: Literal["cell_unavailable"] = "cell_unavailable"
    lacking: tuple[str, ...]
    vllm_version: str


class CellFailed(Timed):
    """The machine got in the way; nothing can be said about the engine from here on."""

    kind: Literal["cell_failed"] = "cell_failed"
    error: str
    cause: str
    remedy: str
    log_tail: str = ""
    interrupted: bool = False
    again: bool = Field(default=False, description="the cell is begun again at once, on another server")


class ServerLeftDamaged(Timed):
    """The server went on to another cell, and answers that one's first questions otherwise than when fresh.

    These were this cell's own questions too.  What came back precedes this event, as passes that
    followed the script.
    """

    kind: Literal["server_left_damaged"] = "server_left_damaged"
    next_cell: str
    because: str = Field(description="what is different, in a sentence")


class CellShortened(Timed):
    """Steps are left out: they could not change what is certain, or nothing would answer them."""

    kind: Literal["cell_shortened"] = "cell_shortened"
    skipped: tuple[str, ...] = Field(description="paths of the steps that are left out")
    because: str = CERTAIN


class CellFinished(Timed):
    """The script has run to its end, but for what a ``cell_shortened`` names."""

    kind: Literal["cell_finished"] = "cell_finished"


Event = Annotated[
    CellStarted
    | ServerReady
    | PromptsPrepared
    | StepStarted
    | StepFinished
    | Call
    | Observation
    | WeightChecksums
    | TokenTexts
    | PassStarted
    | Answer
    | KindAnswered
    | RequestStarted
    | RequestRunning
    | RequestEnded
    | Waited
    | HarnessStopped
    | FirstTokensTimed
    | FirstTokenMissing
    | MachineLoad
    | RequestsCounted
    | CellUnavailable
    | CellFailed
    | CellShortened
    | CellFinished
    | ServerLeftDamaged,
    Field(discriminator="kind"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
