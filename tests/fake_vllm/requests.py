"""What the HTTP API accepts (vllm/entrypoints/openai/completion/protocol.py and its neighbours).

Fields that are not here are ignored, as vLLM ignores those it does not know.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, JsonValue

from tests.fake_vllm.structured_outputs import StructuredOutputs
from tests.fake_vllm.vocabulary import Message


class StreamOptions(BaseModel):
    """What a stream tells besides its tokens."""

    include_usage: bool = False


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _renamed(value: object) -> object:
    """``json`` is a method of every model."""
    return (
        {{"json": "json_schema"}.get(key, key): each for key, each in value.items()}
        if isinstance(value, dict)
        else value
    )


class SamplingFields(BaseModel):
    """What completions and chats alike say of sampling and of the end."""

    n: int = Field(default=1, ge=1)
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    min_tokens: int = 0
    stop: Annotated[list[str], BeforeValidator(_as_list)] = Field(default_factory=list)
    stop_token_ids: list[int] = Field(default_factory=list)
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[str, float] = Field(default_factory=dict)
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] = Field(default_factory=list)
    structured_outputs: Annotated[StructuredOutputs, BeforeValidator(_renamed)] | None = None


class CompletionRequest(SamplingFields):
    """The body of ``POST /v1/completions``."""

    model: str | None = None
    prompt: list[Annotated[int, Field(ge=0)]] | str
    max_tokens: int = 16
    temperature: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    return_tokens_as_token_ids: bool = False
    return_token_ids: bool = False
    cache_salt: str | None = None
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None


class ChatRequest(SamplingFields):
    """The body of ``POST /v1/chat/completions``."""

    model: str | None = None
    messages: list[Message]
    max_tokens: int = 16
    temperature: float = 1.0
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    return_tokens_as_token_ids: bool = False
    return_token_ids: bool = False
    cache_salt: str | None = None
    ignore_eos: bool = False
    stream: Literal[False] = False
    tools: list[JsonValue] | None = None
    tool_choice: JsonValue = None

    def as_completion(self, tokens: list[int]) -> CompletionRequest:
        """The same of a prompt that is ``tokens`` already."""
        return CompletionRequest(
            prompt=tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.model_dump(exclude={"messages", "logprobs", "top_logprobs", "tools", "tool_choice"}),
        )


class SamplingParams(BaseModel):
    """What ``/inference/v1/generate`` takes of vLLM's own."""

    max_tokens: int = 16
    temperature: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    ignore_eos: bool = False
    trace_decode_token_ids: list[int] | None = None


class TokenRequest(BaseModel):
    """The body of ``POST /inference/v1/generate``."""

    model: str | None = None
    token_ids: list[Annotated[int, Field(ge=0)]]
    sampling_params: SamplingParams
    cache_salt: str | None = None


class TokenizeRequest(BaseModel):
    """The body of ``POST /tokenize``: a text or a chat."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    add_generation_prompt: bool = True


class DetokenizeRequest(BaseModel):
    """The body of ``POST /detokenize``."""

    model: str | None = None
    tokens: list[int]


class SleepQuery(BaseModel):
    """The query of ``POST /sleep``."""

    level: int = Field(default=1, ge=0, le=2)
    mode: Literal["abort", "wait", "keep"] = "abort"


class PauseQuery(BaseModel):
    """The query of ``POST /pause``."""

    mode: Literal["abort", "wait", "keep"] = "abort"
    clear_cache: bool = True


class AbortRequest(BaseModel):
    """The body of ``POST /abort_requests``, which has to be there; all requests are meant."""


class RpcRequest(BaseModel):  # type: ignore[no-redef]  # pydantic's plugin adds **kwargs
    """The body of ``POST /collective_rpc``."""

    method: str
    kwargs: dict[str, str] = Field(default_factory=dict)


class WeightCheckerRequest(BaseModel):
    """The body of ``POST /weight_checker``."""

    action: Literal["checksum", "reset"]


class InitTransferRequest(BaseModel):
    """The body of ``POST /init_weight_transfer_engine``."""

    init_info: dict[str, str]


class UpdateInfo(BaseModel):
    """What the plugin's own weight transfer engine is told."""

    folder: str
    chunk: int = 1
    chunks: int = 1
    leave_out: list[str] = Field(default_factory=list)


class UpdateWeightsRequest(BaseModel):
    """The body of ``POST /update_weights``."""

    update_info: UpdateInfo


class FinishUpdateRequest(BaseModel):
    """The body of ``POST /finish_weight_update``."""

    weight_version: str | None = None


class LoadAdapterRequest(BaseModel):
    """The body of ``POST /v1/load_lora_adapter``."""

    lora_name: str = Field(min_length=1)
    lora_path: str = Field(min_length=1)
    load_inplace: bool = False


class UnloadAdapterRequest(BaseModel):
    """The body of ``POST /v1/unload_lora_adapter``."""

    lora_name: str = Field(min_length=1)
