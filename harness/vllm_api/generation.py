"""Generation and scoring through ``/v1/completions``, token ids in and token ids out.

A prompt that holds a picture goes through ``/v1/chat/completions`` instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
import httpx
from pydantic import JsonValue

from harness.errors import UsageError
from harness.vllm_api.calls import CallError, error_message, malformed, shorten, timed_out
from harness.vllm_api.chat import GeneratedChat, Message
from harness.vllm_api.completion import GeneratedCompletion, ScoredCompletion
from harness.vllm_api.logprobs import FloatArray, IdArray, LogprobTable

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletionMessageParam

DEFAULT_TOP_LOGPROBS = 5
MOST_LOGPROBS = 20
"""What a server tells at the most, unless ``--max-logprobs`` says otherwise."""

_NOTHING = LogprobTable.of((), (), DEFAULT_TOP_LOGPROBS)


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What one prompt is asked to become.

    ``messages`` are sent instead of the token ids where a prompt holds a picture, which has none: the ids are
    then what the server makes of the messages.  ``model`` may name an adapter.  ``cache_salt`` keeps the
    prompt's cached blocks apart from those under any other salt: a fresh one guarantees a cold read, the same
    one again a warm one.  ``top_logprobs`` is how many candidates are recorded at each position.  ``extra``
    travels in the body as it is.
    """

    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    model: str
    deadline_s: float
    temperature: float = 0.0
    seed: int | None = None
    cache_salt: str | None = None
    top_logprobs: int = DEFAULT_TOP_LOGPROBS
    messages: tuple[Message, ...] | None = None
    extra: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(bool(self.prompt_token_ids), "a prompt needs at least one token")
        _require(self.max_tokens >= 1, f"max_tokens must be at least 1, not {self.max_tokens}")
        _require(self.deadline_s > 0, f"a deadline must be positive, not {self.deadline_s}")
        _require(self.temperature >= 0, f"a temperature cannot be negative, as {self.temperature} is")
        _require(self.top_logprobs >= 1, f"top_logprobs must be at least 1, not {self.top_logprobs}")
        _require(self.cache_salt != "", "a cache salt cannot be empty; None means no salt")


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighed:
    """Tokens and how probable a server found each, or why there are none.

    The arrays have one row a token: ``chosen_logprobs`` float32 ``[n]``, ``top_ids`` int32 ``[n, k]`` and
    ``top_logprobs`` float32 ``[n, k]``, ordered by descending log-probability, then ascending id; rows with
    fewer candidates are padded with -1 and ``-inf``.  Log-probabilities are natural, before temperature.
    ``cached_tokens`` is the server's own count, ``None`` where it does not tell.  With an ``error`` all but
    ``seconds`` is empty.
    """

    seconds: float
    token_ids: tuple[int, ...] = ()
    cached_tokens: int | None = None
    system_fingerprint: str | None = None
    chosen_logprobs: FloatArray = field(default_factory=lambda: _NOTHING.chosen)
    top_ids: IdArray = field(default_factory=lambda: _NOTHING.top_ids)
    top_logprobs: FloatArray = field(default_factory=lambda: _NOTHING.top_logprobs)
    error: CallError | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation(Weighed):
    """What a prompt became; further counts are the server's own as well."""

    text: str = ""
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scoring(Weighed):
    """Given tokens, each weighed after the ones before it.

    Row ``i`` is about ``token_ids[i]``, which is prompt token ``i + 1``: the first has nothing before it.
    """


_Kind = TypeVar("_Kind", Generation, Scoring)


async def generate(client: openai.AsyncOpenAI, request: GenerationRequest) -> Generation:
    """Ask for one completion and wait at most ``request.deadline_s`` seconds for all of it; never retried."""
    if request.messages is None:
        fields: dict[str, JsonValue] = {"logprobs": request.top_logprobs, "return_tokens_as_token_ids": True}
        sending = _complete(client, request, fields)
    else:
        sending = _chat(client, request, request.messages)
    return await _answered(Generation, sending, request, _read_generation)


async def score(
    client: openai.AsyncOpenAI,
    prompt_token_ids: tuple[int, ...],
    *,
    model: str,
    deadline_s: float,
    top_logprobs: int = DEFAULT_TOP_LOGPROBS,
    cache_salt: str | None = None,
) -> Scoring:
    """Score given tokens by one prefill, which never *reads* the prefix cache (it still writes it).

    It therefore judges the weights and is blind to stale cached blocks and to decoding.  Sent
    as a completion of one token with ``prompt_logprobs``.
    """
    request = GenerationRequest(
        prompt_token_ids=prompt_token_ids,
        max_tokens=1,
        model=model,
        deadline_s=deadline_s,
        cache_salt=cache_salt,
        top_logprobs=top_logprobs,
    )
    sending = _complete(client, request, {"prompt_logprobs": top_logprobs})
    return await _answered(Scoring, sending, request, _read_scoring)


async def _answered(
    kind: type[_Kind],
    sending: Awaitable[bytes],
    request: GenerationRequest,
    read: Callable[[bytes, GenerationRequest, float], _Kind],
) -> _Kind:
    """Wait for the body of a 200 and read it; where there is none, or another than promised, say why."""
    import openai

    started = anyio.current_time()
    try:
        with anyio.fail_after(request.deadline_s):
            answer = await sending
    except (TimeoutError, openai.APIConnectionError, openai.APIStatusError) as failure:
        error = request_error(failure, deadline_s=request.deadline_s)
        return kind(seconds=anyio.current_time() - started, error=error)
    seconds = anyio.current_time() - started
    try:
        return read(answer, request, seconds)
    except ValueError as unreadable:
        return kind(seconds=seconds, error=malformed(unreadable))


async def _complete(
    client: openai.AsyncOpenAI, request: GenerationRequest, fields: Mapping[str, JsonValue]
) -> bytes:
    raw = await client.completions.with_raw_response.create(
        model=request.model,
        prompt=None,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        extra_body=prompt_and_own_fields(request, fields),
    )
    return raw.content


async def _chat(
    client: openai.AsyncOpenAI, request: GenerationRequest, messages: tuple[Message, ...]
) -> bytes:
    raw = await client.chat.completions.with_raw_response.create(
        model=request.model,
        messages=cast("tuple[ChatCompletionMessageParam, ...]", messages),
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        logprobs=True,
        # The taken token counts among the candidates: with one more the likeliest are all told.
        top_logprobs=min(request.top_logprobs + 1, MOST_LOGPROBS),
        extra_body=own_fields(request, {"return_tokens_as_token_ids": True}),
    )
    return raw.content


def prompt_and_own_fields(
    request: GenerationRequest, fields: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """What a completion has besides what is said by name.

    As an argument the prompt would cost milliseconds of every request: the client looks at each token
    of it, once for each kind of thing that a prompt may be.
    """
    return {"prompt": list(request.prompt_token_ids), **own_fields(request, fields)}


def own_fields(request: GenerationRequest, fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What a request has that OpenAI's own API has not."""
    salt = {} if request.cache_salt is None else {"cache_salt": request.cache_salt}
    return {**fields, **request.extra, **salt}


def request_error(error: TimeoutError | openai.APIError | httpx.HTTPError, *, deadline_s: float) -> CallError:
    """Why a request has no usable answer, whichever way its client says so."""
    import openai

    match error:
        case TimeoutError() | openai.APITimeoutError():
            return timed_out(deadline_s)
        case openai.APIStatusError():
            return CallError(kind="http", message=error_message(error.body), status=error.status_code)
        case openai.APIConnectionError() | httpx.HTTPError():
            reason = error.__cause__ or error
            return CallError(kind="connection", message=shorten(f"{type(reason).__name__}: {reason}"))
        case _:
            # An error in the middle of a stream: its status was sent long before.
            return CallError(kind="http", message=shorten(error.message), status=httpx.codes.OK)


def _read_generation(answer: bytes, request: GenerationRequest, seconds: float) -> Generation:
    completion = (
        GeneratedCompletion.model_validate_json(answer)
        if request.messages is None
        else GeneratedChat.model_validate_json(answer).as_completion()
    )
    choice = completion.choices[0]
    table = LogprobTable.of(
        choice.logprobs.token_logprobs, choice.logprobs.top_logprobs, request.top_logprobs
    )
    return Generation(
        token_ids=choice.logprobs.tokens,
        text=choice.text,
        finish_reason=choice.finish_reason,
        stop_reason=choice.stop_reason,
        prompt_tokens=completion.usage.prompt_tokens,
        completion_tokens=completion.usage.completion_tokens,
        cached_tokens=completion.usage.cached_tokens,
        system_fingerprint=completion.system_fingerprint,
        chosen_logprobs=table.chosen,
        top_ids=table.top_ids,
        top_logprobs=table.top_logprobs,
        seconds=seconds,
    )


def _read_scoring(answer: bytes, request: GenerationRequest, seconds: float) -> Scoring:
    completion = ScoredCompletion.model_validate_json(answer)
    scored = request.prompt_token_ids[1:]
    candidates = completion.choices[0].candidates(request.prompt_token_ids)
    chosen = [row[token] for token, row in zip(scored, candidates, strict=True)]
    table = LogprobTable.of(chosen, candidates, request.top_logprobs)
    return Scoring(
        token_ids=scored,
        cached_tokens=completion.usage.cached_tokens,
        system_fingerprint=completion.system_fingerprint,
        chosen_logprobs=table.chosen,
        top_ids=table.top_ids,
        top_logprobs=table.top_logprobs,
        seconds=seconds,
    )


def _require(condition: bool, cause: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise UsageError(cause)
