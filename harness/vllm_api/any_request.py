"""Requests with whatever fields, in one piece or as a stream: what comes back, in one shape for all.

Completions and chats alike.  The OpenAI client is not asked: it knows only part of the fields, and would hide
what is odd about the parts of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio
import httpx
from pydantic import BaseModel, JsonValue

from harness.vllm_api.calls import CallError, error_message, fetch, malformed, shorten, timed_out
from harness.vllm_api.completion import Body, NamedTokenId, TokenLogprobs, Usage

_DATA = "data: "
_LAST = "[DONE]"


class _Function(Body):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Body):
    function: _Function


class _Message(Body):
    content: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None


class _Candidate(Body):
    token: NamedTokenId
    logprob: float


class _Position(_Candidate):
    top_logprobs: tuple[_Candidate, ...] = ()


class _ChatLogprobs(Body):
    content: tuple[_Position, ...] | None = None


class _Choice(Body):
    """One choice of a completion, or of a part of a stream."""

    index: int = 0
    text: str = ""
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: TokenLogprobs | None = None
    prompt_logprobs: tuple[Mapping[str, _Scored] | None, ...] | None = None


class _Scored(BaseModel):
    logprob: float
    rank: int | None = None


class _ChatChoice(Body):
    index: int = 0
    message: _Message
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: _ChatLogprobs | None = None


class _Completion(Body):
    choices: tuple[_Choice, ...] = ()
    usage: Usage | None = None


class _Chat(Body):
    choices: tuple[_ChatChoice, ...]
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True)
class ToldChoice:
    """One of the answers to a request.

    ``ranks`` are those of its tokens among the candidates that were told: 1 is the likeliest.
    ``candidates`` are those of the first token, with their log-probabilities, where it is a completion's.  A
    tool call is the name of a function and its arguments as they came.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    ranks: tuple[int, ...] = ()
    candidates: tuple[tuple[int, float], ...] = ()
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    tool_calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came back for a request: choices by their index, or why there are none."""

    seconds: float = 0.0
    choices: tuple[ToldChoice, ...] = ()
    usage: Usage | None = None
    prompt_logprobs: tuple[float | None, ...] = ()
    error: CallError | None = None


@dataclass(kw_only=True)
class _Growing:
    """A choice of which parts come one by one."""

    parts: list[ToldChoice] = field(default_factory=list)

    def whole(self) -> ToldChoice:
        ends = [part for part in self.parts if part.finish_reason is not None]
        return ToldChoice(
            text="".join(part.text for part in self.parts),
            token_ids=tuple(token for part in self.parts for token in part.token_ids),
            logprobs=tuple(each for part in self.parts for each in part.logprobs),
            ranks=tuple(rank for part in self.parts for rank in part.ranks),
            candidates=next((part.candidates for part in self.parts if part.candidates), ()),
            finish_reason=ends[-1].finish_reason if ends else None,
            stop_reason=ends[-1].stop_reason if ends else None,
        )


async def told_of(
    http: httpx.AsyncClient, path: str, body: Mapping[str, JsonValue], *, deadline_s: float
) -> Told:
    """Ask in one piece, for at most ``deadline_s`` seconds; never retried."""
    fetched = await fetch(http, "POST", path, deadline_s=deadline_s, payload=_with_ids(path, body))
    if fetched.error is not None or fetched.response is None:
        return Told(seconds=fetched.seconds, error=fetched.error)
    try:
        told = _read(path, fetched.response.content)
    except ValueError as unreadable:
        return Told(seconds=fetched.seconds, error=malformed(unreadable))
    return replace(told, seconds=fetched.seconds)


async def streamed_of(
    http: httpx.AsyncClient, path: str, body: Mapping[str, JsonValue], *, deadline_s: float
) -> Told:
    """Ask for a completion as a stream, and add its parts up; for at most ``deadline_s`` seconds."""
    payload = {**_with_ids(path, body), "stream": True, "stream_options": {"include_usage": True}}
    started = anyio.current_time()
    error: CallError | None = None
    told = Told()
    try:
        with anyio.fail_after(deadline_s):
            async with http.stream("POST", path, json=payload) as response:
                if response.is_success:
                    told = _added_up([line async for line in response.aiter_lines()])
                else:
                    error = await _refusal(response)
    except (TimeoutError, httpx.TimeoutException):
        error = timed_out(deadline_s)
    except httpx.HTTPError as failure:
        error = CallError(kind="connection", message=shorten(f"{type(failure).__name__}: {failure}"))
    except ValueError as unreadable:
        error = malformed(unreadable)
    return replace(told, seconds=anyio.current_time() - started, error=error)


async def _refusal(response: httpx.Response) -> CallError:
    content = await response.aread()
    try:
        message = error_message(json.loads(content))
    except ValueError:
        message = ""
    return CallError(kind="http", message=message or response.reason_phrase, status=response.status_code)


def _with_ids(path: str, body: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The same, with what makes the server tell token ids; every release can."""
    asked: dict[str, JsonValue] = {"return_tokens_as_token_ids": True}
    if path.endswith("/chat/completions"):
        return {**asked, "logprobs": True, "top_logprobs": 1, **body}
    return {**asked, "logprobs": 1, **body}


def _read(path: str, content: bytes) -> Told:
    if path.endswith("/chat/completions"):
        chat = _Chat.model_validate_json(content)
        return Told(
            choices=tuple(_of_chat(each) for each in sorted(chat.choices, key=_index)), usage=chat.usage
        )
    completion = _Completion.model_validate_json(content)
    scored = completion.choices[0].prompt_logprobs if completion.choices else None
    return Told(
        choices=tuple(_of_completion(each) for each in sorted(completion.choices, key=_index)),
        usage=completion.usage,
        prompt_logprobs=tuple(_own(row) for row in scored or ()),
    )


def _index(choice: _Choice | _ChatChoice) -> int:
    return choice.index


def _own(row: Mapping[str, _Scored] | None) -> float | None:
    """Of a position of the prompt the log-probability of its own token, which is told first."""
    return next(iter(row.values())).logprob if row else None


def _of_completion(choice: _Choice) -> ToldChoice:
    told = choice.logprobs
    rows = zip(told.token_logprobs, told.top_logprobs, strict=True) if told else ()
    return ToldChoice(
        text=choice.text,
        token_ids=told.tokens if told else (),
        logprobs=told.token_logprobs if told else (),
        ranks=tuple(_rank(chosen, candidates.values()) for chosen, candidates in rows),
        candidates=tuple(next(iter(told.top_logprobs), {}).items()) if told else (),
        finish_reason=choice.finish_reason,
        stop_reason=choice.stop_reason,
    )


def _of_chat(choice: _ChatChoice) -> ToldChoice:
    positions = (choice.logprobs.content if choice.logprobs else None) or ()
    calls = choice.message.tool_calls or ()
    return ToldChoice(
        text=choice.message.content or "",
        token_ids=tuple(each.token for each in positions),
        logprobs=tuple(each.logprob for each in positions),
        ranks=tuple(
            _rank(each.logprob, (other.logprob for other in each.top_logprobs)) for each in positions
        ),
        finish_reason=choice.finish_reason,
        stop_reason=choice.stop_reason,
        tool_calls=tuple((call.function.name or "", call.function.arguments or "") for call in calls),
    )


def _rank(chosen: float, candidates: Iterable[float]) -> int:
    return 1 + sum(each > chosen for each in candidates)


def _added_up(lines: Sequence[str]) -> Told:
    """What a stream of server-sent events comes to.

    Raises:
        ValueError: a part is not what was promised, an error for example.
    """
    growing: dict[int, _Growing] = {}
    usage: Usage | None = None
    for line in lines:
        data = line.removeprefix(_DATA)
        if data == line or data.strip() == _LAST:
            continue
        if '"error"' in data and '"choices"' not in data:
            raise ValueError(f"the stream broke off: {data}")
        part = _Completion.model_validate_json(data)
        usage = part.usage or usage
        for choice in part.choices:
            growing.setdefault(choice.index, _Growing()).parts.append(_of_completion(choice))
    return Told(choices=tuple(growing[index].whole() for index in sorted(growing)), usage=usage)
