"""What was asked and what came back: prompts, passes over them, and requests beside the script."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import Field

from harness.history.event_base import CallFailure, Frozen, Timed
from harness.history.packed_logprobs import Logprobs


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


class Prompt(Frozen):
    """A prompt as it is sent: token ids, never text; or, with a picture, as a chat of both."""

    id: str
    text: str
    token_ids: tuple[int, ...]
    """What the server makes of it; the places of a picture hold ids that are the same for every picture."""
    picture: str | None = Field(default=None, description="an image before the text, as a data: URL")
    held_out: bool = False
    """Asked once in the baseline and then only by the unseen-prompts control."""


class PromptsPrepared(Timed):
    """The prompts as the server's own tokenizer made them."""

    kind: Literal["prompts_prepared"] = "prompts_prepared"
    prompts: tuple[Prompt, ...]
    end_of_sequence_ids: tuple[int, ...] = ()
    vocabulary_size: int | None = None
    block_size: int | None = None


class TokenTexts(Timed):
    """What single tokens read, as far as a report needs it to show where answers part."""

    kind: Literal["token_texts"] = "token_texts"
    texts: Mapping[int, str]


class PassStarted(Timed):
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


class Answer(Timed):
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


class RequestStarted(Timed):
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


class RequestRunning(Timed):
    """The first token of a request has come."""

    kind: Literal["request_running"] = "request_running"
    number: int


class RequestEnded(Timed):
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


class Waited(Timed):
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
