"""vLLM's lifecycle endpoints, one small function each.

Each takes the shared client of a server and a deadline and returns a
:class:`~harness.vllm_api.calls.CallResult`.  All but ``version``, ``health``, the tokenizer and the adapter
endpoints need ``VLLM_SERVER_DEV_MODE=1``; the adapter ones need ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``.
Which release has which is in :mod:`harness.vllm_api.versions`; on one that lacks an endpoint the result is
``unavailable``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import httpx
from pydantic import JsonValue

from harness.vllm_api.calls import CallResult, call
from harness.vllm_api.chat import Message

PauseMode: TypeAlias = Literal["abort", "wait", "keep"]
SleepLevel: TypeAlias = Literal[0, 1, 2]
WakeTag: TypeAlias = Literal["weights", "kv_cache", "scheduling", "unknown"]


async def sleep(
    http: httpx.AsyncClient, *, level: SleepLevel, mode: PauseMode | None = None, deadline_s: float
) -> CallResult:
    """Put the engine to sleep.

    Level 0 pauses scheduling, 1 backs the weights up and discards the KV cache, 2 discards
    both.  ``mode`` says what becomes of running requests (the server's default is ``abort``);
    releases without it ignore it.  Only query parameters count, a JSON body is ignored
    (vllm/entrypoints/serve/dev/sleep/api_router.py).
    """
    params = [("level", str(level))]
    if mode is not None:
        params.append(("mode", mode))
    return await call(http, "POST", "/sleep", params=params, deadline_s=deadline_s)


async def wake_up(http: httpx.AsyncClient, *, tags: Sequence[WakeTag] = (), deadline_s: float) -> CallResult:
    """Wake the named parts of the engine, or all of them."""
    return await call(http, "POST", "/wake_up", params=[("tags", tag) for tag in tags], deadline_s=deadline_s)


async def is_sleeping(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Ask whether any part of the engine is asleep; the answer's field is ``is_sleeping``."""
    return await call(http, "GET", "/is_sleeping", deadline_s=deadline_s)


async def collective_rpc(
    http: httpx.AsyncClient, method: str, *, kwargs: Mapping[str, str] | None = None, deadline_s: float
) -> CallResult:
    """Call a method of every worker; the answer's field ``results`` has one entry a worker."""
    payload: dict[str, JsonValue] = {"method": method}
    if kwargs:
        payload["kwargs"] = dict(kwargs)
    return await call(http, "POST", "/collective_rpc", payload=payload, deadline_s=deadline_s)


async def reload_weights(
    http: httpx.AsyncClient, *, path: str | None = None, deadline_s: float
) -> CallResult:
    """Load the weights again, as a level-2 wake-up needs.

    Without a path vLLM takes the *last* path it loaded from, which need not be the one it was started with.
    """
    kwargs = {"weights_path": path} if path is not None else None
    return await collective_rpc(http, "reload_weights", kwargs=kwargs, deadline_s=deadline_s)


async def reset_prefix_cache(
    http: httpx.AsyncClient,
    *,
    running_requests: bool = False,
    external: bool = False,
    deadline_s: float,
) -> CallResult:
    """Forget every cached block; newer releases answer ``{"success": bool}``.

    While requests run it does not succeed, unless ``running_requests`` preempts them; ``external`` forgets
    what a KV connector holds as well.
    """
    asked = {"reset_running_requests": running_requests, "reset_external": external}
    params = [(name, "true") for name, wanted in asked.items() if wanted]
    return await call(http, "POST", "/reset_prefix_cache", params=params, deadline_s=deadline_s)


async def reset_mm_cache(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Forget preprocessed multi-modal inputs."""
    return await call(http, "POST", "/reset_mm_cache", deadline_s=deadline_s)


async def reset_encoder_cache(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Forget encoder outputs computed with earlier weights."""
    return await call(http, "POST", "/reset_encoder_cache", deadline_s=deadline_s)


async def pause(
    http: httpx.AsyncClient,
    *,
    mode: PauseMode | None = None,
    clear_cache: bool | None = None,
    deadline_s: float,
) -> CallResult:
    """Pause generation, leaving memory as it is."""
    params: list[tuple[str, str]] = []
    if mode is not None:
        params.append(("mode", mode))
    if clear_cache is not None:
        params.append(("clear_cache", str(clear_cache).lower()))
    return await call(http, "POST", "/pause", params=params, deadline_s=deadline_s)


async def resume(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Resume generation after a pause."""
    return await call(http, "POST", "/resume", deadline_s=deadline_s)


async def is_paused(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Ask whether scheduling is paused; the answer's field is ``is_paused``."""
    return await call(http, "GET", "/is_paused", deadline_s=deadline_s)


async def abort_requests(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """End all requests early, without a pause; the answer's field ``aborted`` counts them.

    A body without ``request_ids`` means all; without any body vLLM refuses the call.
    """
    return await call(http, "POST", "/abort_requests", payload={}, deadline_s=deadline_s)


async def release_kv_cache_memory(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Give the KV cache's memory back while paused; the weights stay."""
    return await call(http, "POST", "/release_kv_cache_memory", deadline_s=deadline_s)


async def weight_checksums(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """SHA-256 of every parameter; the answer's field ``checksums`` maps names to digests."""
    return await call(http, "POST", "/weight_checker", payload={"action": "checksum"}, deadline_s=deadline_s)


async def checksums_of_buffers(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """SHA-256 of every buffer, which only workers with our CPU sleep mode tell: one mapping for each."""
    return await collective_rpc(http, "checksums_of_buffers", deadline_s=deadline_s)


async def weight_info(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Which weights are loaded; the answer's field ``weight_version`` is what the last update called them."""
    return await call(http, "GET", "/weight_info", deadline_s=deadline_s)


async def init_weight_transfer_engine(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Let the engine agree with a trainer on how weights are carried; ours need no agreement."""
    payload: dict[str, JsonValue] = {"init_info": {}}
    return await call(http, "POST", "/init_weight_transfer_engine", payload=payload, deadline_s=deadline_s)


async def start_weight_update(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Begin an update; until it ends the engine has no weights that it could use."""
    return await call(http, "POST", "/start_weight_update", deadline_s=deadline_s)


async def update_weights(
    http: httpx.AsyncClient,
    *,
    folder: str,
    chunk: int = 1,
    chunks: int = 1,
    leave_out: Sequence[str] = (),
    deadline_s: float,
) -> CallResult:
    """Have a part of the weights in ``folder`` arrive, through the plugin's own weight transfer engine.

    An engine that carries weights in another way does not know these words.
    """
    told: dict[str, JsonValue] = {
        "folder": folder,
        "chunk": chunk,
        "chunks": chunks,
        "leave_out": list(leave_out),
    }
    return await call(http, "POST", "/update_weights", payload={"update_info": told}, deadline_s=deadline_s)


async def finish_weight_update(
    http: httpx.AsyncClient, *, version: str | None = None, deadline_s: float
) -> CallResult:
    """End an update, and call what has arrived by a version."""
    payload: dict[str, JsonValue] = {"weight_version": version}
    return await call(http, "POST", "/finish_weight_update", payload=payload, deadline_s=deadline_s)


async def load_lora_adapter(
    http: httpx.AsyncClient, *, name: str, path: str, load_inplace: bool = False, deadline_s: float
) -> CallResult:
    """Load an adapter; it is then served as a model of this name."""
    payload: dict[str, JsonValue] = {"lora_name": name, "lora_path": path}
    if load_inplace:
        payload["load_inplace"] = True
    return await call(http, "POST", "/v1/load_lora_adapter", payload=payload, deadline_s=deadline_s)


async def unload_lora_adapter(http: httpx.AsyncClient, *, name: str, deadline_s: float) -> CallResult:
    """Unload an adapter."""
    return await call(
        http, "POST", "/v1/unload_lora_adapter", payload={"lora_name": name}, deadline_s=deadline_s
    )


async def models(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """List what is served, adapters included."""
    return await call(http, "GET", "/v1/models", deadline_s=deadline_s)


def names_in(listed: CallResult) -> list[str]:
    """The names in an answer of :func:`models`, in the server's order."""
    cards = listed.field("data")
    names = [card.get("id") for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
    return [name for name in names if isinstance(name, str)]


async def tokenize_text(
    http: httpx.AsyncClient, text: str, *, model: str | None = None, deadline_s: float
) -> CallResult:
    """Turn text into token ids, special tokens included; the answer's field is ``tokens``."""
    payload: dict[str, JsonValue] = {"prompt": text, **_named(model)}
    return await call(http, "POST", "/tokenize", payload=payload, deadline_s=deadline_s)


async def tokenize_chat(
    http: httpx.AsyncClient,
    messages: Sequence[Message],
    *,
    model: str | None = None,
    deadline_s: float,
) -> CallResult:
    """Turn messages into token ids through the chat template; the answer's field is ``tokens``."""
    payload: dict[str, JsonValue] = {"messages": [dict(each) for each in messages], **_named(model)}
    return await call(http, "POST", "/tokenize", payload=payload, deadline_s=deadline_s)


async def detokenize(
    http: httpx.AsyncClient, token_ids: Sequence[int], *, model: str | None = None, deadline_s: float
) -> CallResult:
    """Turn token ids into text; the answer's field is ``prompt``."""
    payload: dict[str, JsonValue] = {"tokens": list(token_ids), **_named(model)}
    return await call(http, "POST", "/detokenize", payload=payload, deadline_s=deadline_s)


def _named(model: str | None) -> dict[str, JsonValue]:
    return {} if model is None else {"model": model}


async def server_info(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """The server's configuration and environment, as JSON where the release can do that."""
    return await call(http, "GET", "/server_info", params=[("config_format", "json")], deadline_s=deadline_s)


async def version(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """The release that is running; the answer's field is ``version``."""
    return await call(http, "GET", "/version", deadline_s=deadline_s)


async def health(http: httpx.AsyncClient, *, deadline_s: float) -> CallResult:
    """Ask whether the engine process lives; a sleeping or hanging engine answers 200 all the same."""
    return await call(http, "GET", "/health", deadline_s=deadline_s)
