"""What a history is made of: one frozen event per line of ``history.jsonl``.

A history is complete in itself.  Whatever a checker needs (the script, the
prompts, the end-of-sequence ids, what was emulated) is an event, so that judging
never needs the server, the scenario file or the clock.

Times are seconds since the cell started, on a monotonic clock.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    TypeAdapter,
    model_validator,
)

from harness.history import old_layout

FORMAT_VERSION = 1

CERTAIN = "corrupt, and why, whatever they would show"
"""Why the further cycles of a repetition are left out."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CacheCondition(StrEnum):
    """How a pass treats the prefix cache.

    ``WARM`` sends every prompt under the cell's own, stable ``cache_salt``: a healthy
    engine serves it from the cache exactly when the cache holds valid blocks for it.
    ``REHIT`` sends the same again at once, so that a cached read is certain to be seen.
    ``COLD`` uses a ``cache_salt`` never seen before: nothing can be read from the cache.
    """

    WARM = "warm"
    REHIT = "rehit"
    COLD = "cold"


class Method(StrEnum):
    """How the tokens of a pass come about, and so what can be seen in them."""

    GENERATED = "generated"
    """Decoded as the scenario's sampling says."""
    SCORED = "scored"
    """The baseline's own tokens, scored after their prompt in one prefill (``prompt_logprobs``).

    It reads no prefix cache and decodes nothing, so what it shows is in weights or buffers.
    """
    FORCED = "forced"
    """The baseline's own tokens, decoded one by one whatever the engine would have taken (trace replay).

    No answer parts from its baseline, so every position of the decode path can be compared.
    """
    SAMPLED = "sampled"
    """Decoded at temperature 1 with a fixed seed, as most users do: shows a sampler that changed."""

    @property
    def tokens_are_given(self) -> bool:
        """Whether the engine only weighs tokens: then nothing ends, repeats or can be counted."""
        return self in {Method.SCORED, Method.FORCED}


class Role(StrEnum):
    """What a pass is evidence of."""

    BASELINE = "baseline"
    """Before any transition: what the others are compared with."""
    NULL = "null"
    """After a transition that must change nothing: measures the noise."""
    AFTER = "after"
    """After real transitions: what is judged."""
    CONTROL = "control"
    """Asked only to decide the cause of a difference already seen."""


class Control(StrEnum):
    """The question a control pass answers, in the order they are asked."""

    ASKED_AGAIN = "asked_again"
    """The one prompt that was answered otherwise, asked once more as it had been."""
    FRESH_SALT = "fresh_salt"
    """The same prompts where nothing can come from the prefix cache."""
    UNSEEN_PROMPTS = "unseen_prompts"
    """Prompts the engine had answered once, at the start, and never since."""
    BASE_MODEL = "base_model"
    """The same prompts, asked of the base model where an adapter's answers differ."""
    RESET_PREFIX_CACHE = "reset_prefix_cache"
    """The same prompts after ``/reset_prefix_cache``."""
    RESET_ENCODER_CACHE = "reset_encoder_cache"
    """The same pictures after ``/reset_mm_cache`` and ``/reset_encoder_cache``, nothing else being cached."""
    RELOAD_WEIGHTS = "reload_weights"
    """The same prompts after the weights were loaded again."""
    SAME_AGAIN = "same_again"
    """One prompt that had no answer in time, as a request of its own: was that one lost, or the engine?"""
    CANARY = "canary"
    """A prompt that had not failed, beside it."""


def _as_base64(packed: bytes) -> str:
    return base64.b64encode(packed).decode("ascii")


_Packed = Annotated[bytes, Field(strict=True), PlainSerializer(_as_base64, when_used="json")]


class Logprobs(_Frozen):
    """Log-probabilities of ``n`` generated tokens and of the ``k`` likeliest tokens beside each.

    Arrays are little-endian 32-bit values and travel as base64: exact, compact and fast to
    read.  Missing places hold id -1 and minus infinity.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True, val_json_bytes="base64")

    k: int = Field(ge=0)
    chosen_bytes: _Packed = Field(alias="chosen_base64")
    top_ids_bytes: _Packed = Field(alias="top_ids_base64")
    top_values_bytes: _Packed = Field(alias="top_values_base64")

    @classmethod
    def pack(
        cls,
        *,
        chosen: npt.NDArray[np.float32],
        top_ids: npt.NDArray[np.int32],
        top_values: npt.NDArray[np.float32],
    ) -> Self:
        """Pack ``chosen`` [n], ``top_ids`` [n, k] and ``top_values`` [n, k]."""
        if top_ids.shape != top_values.shape or top_ids.shape[:-1] != chosen.shape:
            raise ValueError(f"shapes do not fit: {chosen.shape}, {top_ids.shape}, {top_values.shape}")
        return cls(
            k=top_ids.shape[1],
            chosen_bytes=chosen.astype("<f4").tobytes(),
            top_ids_bytes=top_ids.astype("<i4").tobytes(),
            top_values_bytes=top_values.astype("<f4").tobytes(),
        )

    @property
    def chosen(self) -> npt.NDArray[np.float32]:
        """Log-probability of every generated token, shape [n], natural logarithm."""
        return np.frombuffer(self.chosen_bytes, dtype="<f4")

    @property
    def top_ids(self) -> npt.NDArray[np.int32]:
        """Ids of the likeliest tokens at every position, shape [n, k], likeliest first."""
        return np.frombuffer(self.top_ids_bytes, dtype="<i4").reshape(len(self.chosen), self.k)

    @property
    def top_values(self) -> npt.NDArray[np.float32]:
        """Their log-probabilities, shape [n, k]."""
        return np.frombuffer(self.top_values_bytes, dtype="<f4").reshape(len(self.chosen), self.k)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        rows, rest = divmod(len(self.chosen_bytes), 4)
        if rest:
            raise ValueError("the packed log-probabilities are not 32-bit values")
        for packed in (self.top_ids_bytes, self.top_values_bytes):
            if len(packed) != rows * self.k * 4:
                raise ValueError(f"packed top-k arrays do not hold {rows} x {self.k} values")
        return self


class Prompt(_Frozen):
    """A prompt as it is sent: token ids, never text; or, with a picture, as a chat of both."""

    id: str
    text: str
    token_ids: tuple[int, ...]
    """What the server makes of it; the places of a picture hold ids that are the same for every picture."""
    picture: str | None = Field(default=None, description="an image before the text, as a data: URL")
    held_out: bool = False
    """Asked once in the baseline and then only by the unseen-prompts control."""


UNTIMELY = frozenset({"timeout", "hang"})
"""Failures that are about time."""


class CallFailure(_Frozen):
    """Why an HTTP call has no usable answer."""

    kind: Literal["timeout", "hang", "connection", "http", "protocol"]
    """``timeout``: nothing in time, which a slow engine explains.  ``hang``: the engine stood still."""
    message: str
    status: int | None = None


class _Event(_Frozen):
    t: float = Field(ge=0, description="seconds since the cell started")


class CellStarted(_Event):
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


class ServerReady(_Event):
    """A server answers: what it is, how it was started and how long that took."""

    kind: Literal["server_ready"] = "server_ready"
    runtime: str
    command: str
    vllm_version: str | None
    image: str | None = None
    image_digest: str | None = None
    boot_seconds: float
    emulated: tuple[str, ...] = ()
    configuration: JsonValue = None
    environment: JsonValue = Field(
        default=None, description="what the server says of its system: libraries, processor, GPUs, variables"
    )
    shared_with: tuple[str, ...] = ()
    """The cells it served before this one, the first of which booted it; its log is in that one's folder."""


class PromptsPrepared(_Event):
    """The prompts as the server's own tokenizer made them."""

    kind: Literal["prompts_prepared"] = "prompts_prepared"
    prompts: tuple[Prompt, ...]
    end_of_sequence_ids: tuple[int, ...] = ()
    vocabulary_size: int | None = None
    block_size: int | None = None


class StepStarted(_Event):
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


class StepFinished(_Event):
    """A step has ended.  ``unconfirmed`` says in words which independent observation contradicts it."""

    kind: Literal["step_finished"] = "step_finished"
    step: str
    seconds: float
    unconfirmed: tuple[str, ...] = ()


class Call(_Event):
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


class Observation(_Event):
    """The engine seen from outside, independent of what its calls answered."""

    kind: Literal["observation"] = "observation"
    step: str | None
    moment: Literal["before", "after", "settled"]
    is_sleeping: bool | None
    is_paused: bool | None = None
    is_healthy: bool | None = Field(default=None, description="whether /health answered with 200")
    sleep_state: str | None = Field(description="of the vllm:engine_sleep_state gauge")
    resident_bytes: int | None
    device_bytes: int | None
    memory_by_process: Mapping[str, int] = {}
    counters: Mapping[str, float] = {}


class WeightChecksums(_Event):
    """Checksum of every parameter as ``/weight_checker`` tells it; None where the version has none.

    Of buffers only workers with our CPU sleep mode tell.
    """

    kind: Literal["weight_checksums"] = "weight_checksums"
    step: str | None
    reference: str | None = Field(default=None, description="the baseline whose weights they ought to be")
    checksums: Mapping[str, str] | None
    buffers: Mapping[str, str] | None = Field(
        default=None, description="checksum of every buffer of the model; None where nobody tells"
    )


class TokenTexts(_Event):
    """What single tokens read, as far as a report needs it to show where answers part."""

    kind: Literal["token_texts"] = "token_texts"
    texts: Mapping[int, str]


class PassStarted(_Event):
    """Prompts are about to be sent once each under one condition."""

    kind: Literal["pass_started"] = "pass_started"
    number: int
    step: str
    probe: str
    role: Role
    method: Method = Method.GENERATED
    cache: CacheCondition
    concurrency: int
    cycle: int
    control: Control | None = None
    adapter: str | None = Field(default=None, description="the adapter that is asked; None: the base model")
    reference: str | None = Field(
        default=None,
        description="the baseline probe that the answers must equal; a baseline's is its own name. "
        "None in histories that know only one baseline",
    )
    differs_from: tuple[str, ...] = Field(
        default=(), description="baseline probes that the answers must not all equal"
    )
    asked: tuple[str, ...] = Field(default=(), description="ids of the prompts that are sent")


class Answer(_Event):
    """What came back for one prompt in one pass: tokens, or a failure."""

    kind: Literal["answer"] = "answer"
    pass_number: int
    prompt: str
    token_ids: tuple[int, ...] = ()
    text: str = ""
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    system_fingerprint: str | None = None
    logprobs: Logprobs | None = None
    seconds: float
    failure: CallFailure | None = None


class RequestStarted(_Event):
    """A request is sent beside the script, which goes on without its answer."""

    kind: Literal["request_started"] = "request_started"
    number: int
    step: str
    group: str = Field(description="the name its step gives it")
    prompt: str
    adapter: str | None = Field(default=None, description="the adapter that is asked; None: the base model")
    reference: str | None = Field(
        default=None,
        description="the baseline probe its answer is held to; None in older histories: the first",
    )


class RequestRunning(_Event):
    """The first token of a request has come."""

    kind: Literal["request_running"] = "request_running"
    number: int


class RequestEnded(_Event):
    """Nothing more comes for a request: the stream ended or broke off, or the client left."""

    kind: Literal["request_ended"] = "request_ended"
    number: int
    token_ids: tuple[int, ...] = ()
    text: str = ""
    finish_reasons: tuple[str, ...] = Field(default=(), description="each that came; a sound stream has one")
    tokens_after_end: int = Field(default=0, description="tokens that came after the first finish reason")
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    client_left: bool = Field(default=False, description="the script closed the connection on purpose")
    seconds: float
    failure: CallFailure | None = None


class Waited(_Event):
    """What the engine did while requests were waited for that did not end in time."""

    kind: Literal["waited"] = "waited"
    step: str | None
    pass_number: int | None = Field(default=None, description="of the pass; None: requests beside the script")
    seconds: float = Field(description="how long it was watched")
    still_seconds: float | None = Field(
        default=None,
        description="for how long, at the end, no counter moved and no process did anything; "
        "None where processes cannot be seen",
    )
    counters_still_seconds: float = Field(default=0.0, description="the same of the counters alone")
    generated_tokens: int | None = Field(default=None, description="that the engine counted meanwhile")
    cpu_seconds: float | None = Field(default=None, description="that its processes used meanwhile")
    would_take_seconds: float | None = Field(
        default=None, description="until the last answer at the pace that was seen, from its beginning on"
    )


class FirstTokensTimed(_Event):
    """How long requests for one token took that were alone, one after the other, of a prompt not cached."""

    kind: Literal["first_tokens_timed"] = "first_tokens_timed"
    step: str | None
    prompt: str
    seconds: tuple[float, ...] = Field(min_length=1)


class HarnessStopped(_Event):
    """The harness itself did not run: no time that reaches over this can be judged."""

    kind: Literal["harness_stopped"] = "harness_stopped"
    seconds: float = Field(ge=0, description="for how long, beyond what it computed itself")
    suspended_seconds: float = Field(default=0.0, description="of these, as long as the machine slept")
    clock_jump_seconds: float = Field(
        default=0.0, description="by how much the wall clock was set meanwhile; we measure by another"
    )


class MachineLoad(_Event):
    """How busy the machine was while a pass or a lifecycle call was timed, and with whose work.

    Seconds of one processor, but for ``seconds``, which are those of the clock.
    """

    kind: Literal["machine_load"] = "machine_load"
    step: str | None
    pass_number: int | None = Field(default=None, description="of the pass; None: a call of the step")
    seconds: float = Field(ge=0, description="how long it was looked at")
    cores: int = Field(ge=1, description="processors of the machine")
    busy_seconds: float = Field(description="all that was computed, and what its host took away")
    own_seconds: float = Field(description="of these, the harness's")
    engine_seconds: float = Field(description="of these, the server's processes'")
    throttled_seconds: float | None = Field(
        default=None, description="for how long the control group was held back; None where it does not say"
    )

    @property
    def others_seconds(self) -> float:
        """What neither the harness nor the server computed; of a short time it may be less than nothing.

        A machine counts in ticks, its processes more finely.
        """
        return self.busy_seconds - self.own_seconds - self.engine_seconds


class RequestsCounted(_Event):
    """What a server that is not ours counted while the cell ran: everybody's requests.

    None where it does not count them.
    """

    kind: Literal["requests_counted"] = "requests_counted"
    ended: int | None = Field(description="requests that came to an end, whatever that was")
    aborted: int | None = Field(description="those among them that were ended early")
    own: int = Field(description="requests that the cell sent")
    under_way: int = Field(default=0, description="requests of others that had not ended by then")


class CellUnavailable(_Event):
    """The release under test lacks what the script needs, so the script was not begun."""

    kind: Literal["cell_unavailable"] = "cell_unavailable"
    lacking: tuple[str, ...]
    vllm_version: str


class CellFailed(_Event):
    """The machine got in the way; nothing can be said about the engine from here on."""

    kind: Literal["cell_failed"] = "cell_failed"
    error: str
    cause: str
    remedy: str
    log_tail: str = ""
    interrupted: bool = False
    again: bool = Field(default=False, description="the cell is begun again at once, on another server")


class ServerLeftDamaged(_Event):
    """The server went on to another cell, and answers that one's first questions otherwise than when fresh.

    These were this cell's own questions too.  What came back precedes this event, as passes that
    followed the script.
    """

    kind: Literal["server_left_damaged"] = "server_left_damaged"
    next_cell: str
    because: str = Field(description="what is different, in a sentence")


class CellShortened(_Event):
    """Steps are left out: they could not change what is certain, or nothing would answer them."""

    kind: Literal["cell_shortened"] = "cell_shortened"
    skipped: tuple[str, ...] = Field(description="paths of the steps that are left out")
    because: str = CERTAIN


class CellFinished(_Event):
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
    | RequestStarted
    | RequestRunning
    | RequestEnded
    | Waited
    | HarnessStopped
    | FirstTokensTimed
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
