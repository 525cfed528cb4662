"""Decoding along given tokens: vLLM's trace replay, through its endpoint for token ids.

``/v1/completions`` cannot ask for it.  ``/inference/v1/generate`` takes vLLM's own ``SamplingParams``, and
answers 403 without ``--enable-scale-out``; the engine refuses without ``--enable-trace-replay``, which model
runner V2 alone has, and that no CPU.  Shapes: vllm/entrypoints/scale_out/token_in_token_out/protocol.py,
vllm/v1/engine/input_processor.py (0.32).
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from pydantic import JsonValue

from harness.vllm_api.calls import fetch, malformed
from harness.vllm_api.completion import Body, TokenId, Usage
from harness.vllm_api.generation import MOST_LOGPROBS, GenerationRequest, Scoring
from harness.vllm_api.logprobs import LogprobTable

PATH = "/inference/v1/generate"


class _Candidate(Body):
    token_id: TokenId
    logprob: float


class _Position(_Candidate):
    """The token that was taken, and the likeliest."""

    top_logprobs: tuple[_Candidate, ...]

    @property
    def candidates(self) -> dict[int, float]:
        """Log-probabilities by token id, the taken token's among them."""
        return {each.token_id: each.logprob for each in (self, *self.top_logprobs)}


class _Logprobs(Body):
    content: tuple[_Position, ...]


class _Choice(Body):
    token_ids: tuple[TokenId, ...]
    logprobs: _Logprobs


class _Generated(Body):
    usage: Usage
    choices: tuple[_Choice]


async def force(http: httpx.AsyncClient, request: GenerationRequest, tokens: Sequence[int]) -> Scoring:
    """Decode ``tokens`` one by one after the prompt of ``request``; never retried.

    Row ``i`` of what comes back is about ``tokens[i]``: its log-probability and those of the likeliest, which
    the engine weighed although it had no choice.  Of ``request`` count the prompt, the model, the salt, the
    deadline and the number of candidates.
    """
    fetched = await fetch(http, "POST", PATH, deadline_s=request.deadline_s, payload=_body(request, tokens))
    error = fetched.error
    if error is None and fetched.response is not None:
        try:
            return _read(fetched.response.content, request, tokens, fetched.seconds)
        except ValueError as unreadable:
            error = malformed(unreadable)
    return Scoring(seconds=fetched.seconds, error=error)


def _body(request: GenerationRequest, tokens: Sequence[int]) -> JsonValue:
    # The taken token counts among the candidates: with one more the likeliest are all told.
    wanted = min(request.top_logprobs + 1, MOST_LOGPROBS)
    body: dict[str, JsonValue] = {
        "model": request.model,
        "token_ids": [*request.prompt_token_ids],
        "sampling_params": {
            "temperature": 0.0,
            "max_tokens": len(tokens),
            "logprobs": wanted,
            "trace_decode_token_ids": [*tokens],
        },
    }
    return body if request.cache_salt is None else {**body, "cache_salt": request.cache_salt}


def _read(answer: bytes, request: GenerationRequest, tokens: Sequence[int], seconds: float) -> Scoring:
    generated = _Generated.model_validate_json(answer)
    choice = generated.choices[0]
    if choice.token_ids != tuple(tokens):
        raise ValueError("the engine departed from the tokens it was told to decode")
    positions = choice.logprobs.content
    if len(positions) != len(tokens):
        raise ValueError(f"{len(positions)} log-probabilities for {len(tokens)} tokens")
    table = LogprobTable.of(
        [each.logprob for each in positions], [each.candidates for each in positions], request.top_logprobs
    )
    return Scoring(
        token_ids=choice.token_ids,
        cached_tokens=generated.usage.cached_tokens,
        chosen_logprobs=table.chosen,
        top_ids=table.top_ids,
        top_logprobs=table.top_logprobs,
        seconds=seconds,
    )
