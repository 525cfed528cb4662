"""One completion as a stream: its tokens as they come, and how it ended.

A request that is answered in one piece does not show whether the engine has begun with it, nor
that something came after its end.  A stream shows both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import httpx

from harness.vllm_api.calls import CallError, malformed
from harness.vllm_api.completion import StreamedPart
from harness.vllm_api.generation import GenerationRequest, prompt_and_own_fields, request_error

if TYPE_CHECKING:
    import openai


@dataclass(kw_only=True)
class Streamed:
    """What has come so far; it stays readable when the stream is given up.

    ``finish_reasons`` has one entry for each that came: a sound stream has exactly one, and no
    token after it.  ``completion_tokens`` and ``cached_tokens`` are the server's own counts,
    which it tells last.  ``complete`` is set when the stream was read to its end.
    """

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reasons: list[str] = field(default_factory=list)
    tokens_after_end: int = 0
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    complete: bool = False
    error: CallError | None = None

    def add(self, part: StreamedPart) -> None:
        """Take in what came next."""
        for choice in part.choices:
            tokens = choice.logprobs.tokens if choice.logprobs else ()
            if self.finish_reasons:
                self.tokens_after_end += len(tokens)
            self.token_ids.extend(tokens)
            self.text += choice.text
            if choice.finish_reason is not None:
                self.finish_reasons.append(choice.finish_reason)
        if part.usage is not None:
            self.completion_tokens = part.usage.completion_tokens
            self.cached_tokens = part.usage.cached_tokens


async def stream(
    client: openai.AsyncOpenAI,
    request: GenerationRequest,
    *,
    into: Streamed,
    on_accepted: Callable[[], None],
    on_first_token: Callable[[], None],
) -> None:
    """Ask for one completion and put ``into`` what comes, for at most ``request.deadline_s`` seconds.

    ``on_accepted`` is called when the server has begun to answer, which it does before the engine
    has anything to say.  Nothing is raised for what the server does; cancellation passes through
    and closes the connection, as a client that leaves does.
    """
    import openai

    try:
        with anyio.fail_after(request.deadline_s):
            await _read(client, request, into, on_accepted, on_first_token)
        into.complete = True
    except (TimeoutError, openai.APIError, httpx.HTTPError) as error:
        into.error = request_error(error, deadline_s=request.deadline_s)
    except ValueError as unreadable:
        into.error = malformed(unreadable)


async def _read(
    client: openai.AsyncOpenAI,
    request: GenerationRequest,
    into: Streamed,
    on_accepted: Callable[[], None],
    on_first_token: Callable[[], None],
) -> None:
    parts = await client.completions.create(
        model=request.model,
        prompt=None,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        logprobs=request.top_logprobs,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=prompt_and_own_fields(request, {"return_tokens_as_token_ids": True}),
    )
    async with parts:
        on_accepted()
        async for part in parts:
            had_tokens = bool(into.token_ids)
            into.add(StreamedPart.model_validate(part.to_dict(warnings=False)))
            if into.token_ids and not had_tokens:
                on_first_token()
