"""The shapes of vLLM's answers, down to the fields that are always null."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from collections.abc import Sequence as Many

import numpy as np
from pydantic import JsonValue

from tests.fake_vllm import vocabulary
from tests.fake_vllm.model import Array
from tests.fake_vllm.requests import CompletionRequest
from tests.fake_vllm.sequence import Sequence

VERSION = "0.32.0"

_MINUS_INFINITY = -9999.0
"""What vLLM writes for a log-probability of minus infinity, which JSON does not know."""

_numbers = itertools.count()


def completion(
    sequences: Many[Sequence],
    request: CompletionRequest,
    *,
    model: str,
    fingerprint: str,
    details: bool,
    miscount: int,
) -> JsonValue:
    """The answer of ``/v1/completions``; ``miscount`` is added to the number of generated tokens."""
    choices: list[JsonValue] = [
        {
            "index": index,
            "text": sequence.text,
            "logprobs": None if request.logprobs is None else _logprobs(sequence, request),
            "finish_reason": sequence.finish_reason,
            "stop_reason": sequence.stop_reason,
            "token_ids": [*sequence.generated] if request.return_token_ids else None,
            "prompt_logprobs": None
            if request.prompt_logprobs is None
            else _prompt_logprobs(sequence, request),
            "prompt_token_ids": [*sequence.tokens[: sequence.prompt_length]]
            if request.return_token_ids
            else None,
            "routed_experts": None,
        }
        for index, sequence in enumerate(sequences)
    ]
    whole = _whole(
        sequences, choices, model=model, fingerprint=fingerprint, details=details, miscount=miscount
    )
    return {**whole, "id": new_id(), "object": "text_completion"}


def chat(
    sequences: Many[Sequence],
    request: CompletionRequest,
    *,
    model: str,
    fingerprint: str,
    details: bool,
    miscount: int,
) -> JsonValue:
    """The answer of ``/v1/chat/completions``."""
    choices: list[JsonValue] = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": sequence.text,
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "reasoning": None,
            },
            "logprobs": None if request.logprobs is None else {"content": _chat_positions(sequence, request)},
            "finish_reason": sequence.finish_reason,
            "stop_reason": sequence.stop_reason,
            "token_ids": [*sequence.generated] if request.return_token_ids else None,
            "routed_experts": None,
        }
        for index, sequence in enumerate(sequences)
    ]
    whole = _whole(
        sequences, choices, model=model, fingerprint=fingerprint, details=details, miscount=miscount
    )
    prompt: list[JsonValue] = [*sequences[0].tokens[: sequences[0].prompt_length]]
    return {
        **whole,
        "id": new_id().replace("cmpl", "chatcmpl"),
        "object": "chat.completion",
        "prompt_logprobs": None,
        "prompt_token_ids": prompt if request.return_token_ids else None,
        "prompt_text": None,
    }


def _whole(
    sequences: Many[Sequence],
    choices: list[JsonValue],
    *,
    model: str,
    fingerprint: str,
    details: bool,
    miscount: int,
) -> dict[str, JsonValue]:
    """What completions and chats have in common around their choices."""
    return {
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": fingerprint,
        "usage": _usage(*sequences, details=details, miscount=miscount),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _chat_positions(sequence: Sequence, request: CompletionRequest) -> list[JsonValue]:
    """The taken token, and as many candidates as were asked for, itself first among them."""
    name = _as_id if request.return_tokens_as_token_ids else _as_text
    positions: list[JsonValue] = []
    for token, row in zip(sequence.generated, sequence.logprobs, strict=True):
        others = [each for each in _likeliest(row, request.logprobs or 0) if each != token]
        listed: list[JsonValue] = [
            _named(name(each), row[each]) for each in (token, *others)[: request.logprobs]
        ]
        positions.append({**_named(name(token), row[token]), "top_logprobs": listed})
    return positions


def _named(name: str, logprob: np.float32) -> dict[str, JsonValue]:
    return {"token": name, "logprob": _finite(logprob), "bytes": [*name.encode()]}


def token_answer(sequence: Sequence, *, candidates: int | None, model: str, details: bool) -> JsonValue:
    """The answer of ``/inference/v1/generate``."""
    choice: dict[str, JsonValue] = {
        "index": 0,
        "finish_reason": sequence.finish_reason,
        "stop_reason": None,
        "token_ids": [*sequence.generated],
        "routed_experts": None,
        "sampling_mask": None,
        "weight_versions": None,
        "logprobs": None if candidates is None else {"content": _positions(sequence, candidates)},
    }
    return {
        "request_id": new_id(),
        "model": model,
        "created": int(time.time()),
        "usage": _usage(sequence, details=details, miscount=0),
        "prompt_logprobs": None,
        "prompt_token_id_logprobs": None,
        "prompt_token_ids": None,
        "mm_placeholders": None,
        "metrics": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "output_mode": "tokens",
        "choices": [choice],
    }


def _positions(sequence: Sequence, candidates: int) -> list[JsonValue]:
    """The taken token, and as many candidates as were asked for, itself first among them."""
    positions: list[JsonValue] = []
    for token, row in zip(sequence.generated, sequence.logprobs, strict=True):
        others = [each for each in _likeliest(row, candidates) if each != token]
        listed: list[JsonValue] = [_weighed(row, each) for each in (token, *others)[: max(candidates, 1)]]
        positions.append({**_weighed(row, token), "top_logprobs": listed})
    return positions


def _weighed(row: Array, token: int) -> dict[str, JsonValue]:
    return {"token_id": token, "logprob": _finite(row[token]), "rank": int((row > row[token]).sum()) + 1}


def stream_part(
    sequence: Sequence, request: CompletionRequest, *, known: int, model: str, id_: str
) -> JsonValue:
    """What a stream tells after the first ``known`` tokens."""
    logprobs = None if request.logprobs is None else _logprobs(sequence, request, known=known)
    choice: dict[str, JsonValue] = {
        "index": 0,
        "text": sequence.text[len(vocabulary.decode(sequence.generated[:known])) :],
        "logprobs": logprobs,
        "finish_reason": sequence.finish_reason,
        "stop_reason": sequence.stop_reason,
        "token_ids": [*sequence.generated[known:]] if request.return_token_ids else None,
    }
    return {**_stream_head(id_, model), "choices": [choice]}


def stream_usage(sequence: Sequence, *, model: str, id_: str, fingerprint: str, details: bool) -> JsonValue:
    """The last part of a stream, where usage was asked for."""
    head = {**_stream_head(id_, model), "choices": [], "system_fingerprint": fingerprint}
    return {**head, "usage": _usage(sequence, details=details, miscount=0)}


def new_id() -> str:
    """The id of a completion."""
    return f"cmpl-{next(_numbers):032x}"


def _stream_head(id_: str, model: str) -> dict[str, JsonValue]:
    return {"id": id_, "object": "text_completion", "created": int(time.time()), "model": model}


def _usage(sequence: Sequence, *others: Sequence, details: bool, miscount: int) -> dict[str, JsonValue]:
    generated = sum(len(each.generated) for each in (sequence, *others)) + miscount
    cached: dict[str, JsonValue] = {
        "cached_tokens": sequence.cached,
        "created_cache_tokens": None,
        "multimodal_tokens": None,
    }
    return {
        "prompt_tokens": sequence.prompt_length,
        "total_tokens": sequence.prompt_length + generated,
        "completion_tokens": generated,
        "prompt_tokens_details": cached if details and sequence.cached is not None else None,
        "completion_tokens_details": None,
    }


def _logprobs(sequence: Sequence, request: CompletionRequest, *, known: int = 0) -> dict[str, JsonValue]:
    name = _as_id if request.return_tokens_as_token_ids else _as_text
    tokens = [name(token) for token in sequence.generated[known:]]
    offsets: list[JsonValue] = [0, *itertools.accumulate(map(len, tokens))]
    rows = list(zip(sequence.generated, sequence.logprobs, strict=True))[known:]
    return {
        "text_offset": offsets[: len(tokens)],
        "token_logprobs": [_finite(row[token]) for token, row in rows],
        "tokens": [*tokens],
        "top_logprobs": [_candidates(token, row, request.logprobs or 0, name) for token, row in rows],
    }


def _candidates(token: int, row: Array, count: int, name: Callable[[int], str]) -> dict[str, JsonValue]:
    """The chosen token, then the likeliest; the chosen one again counts once."""
    return {name(candidate): _finite(row[candidate]) for candidate in (token, *_likeliest(row, count))}


def _prompt_logprobs(sequence: Sequence, request: CompletionRequest) -> list[JsonValue]:
    """Nothing for the first token, which has nothing before it."""
    scored = zip(sequence.tokens[1 : sequence.prompt_length], sequence.prompt_logprobs, strict=True)
    rows: list[JsonValue] = [None]
    for token, row in scored:
        candidates = (token, *_likeliest(row, request.prompt_logprobs or 0))
        rows.append({str(candidate): _ranked(row, candidate) for candidate in candidates})
    return rows


def _ranked(row: Array, token: int) -> dict[str, JsonValue]:
    return {
        "logprob": _finite(row[token]),
        "rank": int((row > row[token]).sum()) + 1,
        "decoded_token": vocabulary.PIECES[token],
    }


def _likeliest(row: Array, count: int) -> Many[int]:
    likeliest: list[int] = np.argsort(-row, kind="stable")[:count].tolist()
    return likeliest


def _finite(logprob: np.float32) -> float:
    return max(float(logprob), _MINUS_INFINITY)


def _as_id(token: int) -> str:
    return f"token_id:{token}"


def _as_text(token: int) -> str:
    return vocabulary.PIECES[token]
