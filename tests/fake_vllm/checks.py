"""What vLLM refuses in a completion request, in its order and in its words."""

from __future__ import annotations

from tests.fake_vllm import vocabulary
from tests.fake_vllm.options import Options
from tests.fake_vllm.refusals import RefusedError, bad_request
from tests.fake_vllm.requests import CompletionRequest


def check_fields(body: CompletionRequest) -> None:
    """Refuse values that make no sense for any server."""
    if body.prompt == "":
        raise _refused("prompt", "Either prompt or prompt_embeds must be provided and non-empty.")
    if body.cache_salt == "":
        raise _refused("cache_salt", "Parameter 'cache_salt' must be a non-empty string if provided.")
    for name, count in (("logprobs", body.logprobs), ("prompt_logprobs", body.prompt_logprobs)):
        if count is not None and count < -1:
            raise _refused(name, f"`{name}` must be a positive value or -1.")
    if body.temperature < 0:
        raise _refused("temperature", f"temperature must be non-negative, got {body.temperature}.")


def check_limits(body: CompletionRequest, tokens: list[int], options: Options) -> int:
    """Refuse what is too much for this server; returns how many tokens the answer may have."""
    if not tokens:
        raise bad_request("You must pass at least one prompt")
    if max(tokens) >= vocabulary.SIZE:
        raise bad_request(f"Token id {max(tokens)} is out of vocabulary")
    if len(tokens) > options.max_model_len:
        raise _refused(
            "input_tokens",
            f"This model's maximum context length is {options.max_model_len} tokens. "
            f"However, your prompt contains {len(tokens)} input tokens.",
        )
    max_tokens = min(body.max_tokens, options.max_model_len - len(tokens))
    if max_tokens < 1:
        raise _refused("max_tokens", f"max_tokens must be at least 1, got {max_tokens}.")
    for name, count in (("logprobs", body.logprobs), ("prompt_logprobs", body.prompt_logprobs)):
        if (count or 0) > options.max_logprobs:
            most = options.max_logprobs
            raise _refused(name, f"Requested {name} of {count}, which is greater than max allowed: {most}")
    return max_tokens


def _refused(field: str, message: str) -> RefusedError:
    return bad_request(f"{message} (parameter={field})", param=field)
