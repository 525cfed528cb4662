"""The two clients one server is spoken to with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import openai

_NO_KEY = "none"
"""The OpenAI client insists on a key; a vLLM server without ``--api-key`` ignores it."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A server's address and the open clients for it."""

    base_url: str
    http: httpx.AsyncClient
    openai: openai.AsyncOpenAI


@asynccontextmanager
async def connect(base_url: str, *, api_key: str | None = None) -> AsyncIterator[Connection]:
    """Open the clients for the server at ``base_url`` (scheme, host and port, without ``/v1``).

    Proxy settings of the environment are ignored: servers are on loopback or were named by the user.
    Neither client has a timeout of its own and neither retries; the callers' deadlines rule.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    base_url = base_url.rstrip("/")
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with (
        httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=None,  # noqa: S113 - every call has its own deadline
            limits=unlimited,
            trust_env=False,
        ) as http,
        openai.AsyncOpenAI(
            base_url=f"{base_url}/v1",
            api_key=api_key or _NO_KEY,
            max_retries=0,
            timeout=None,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False, timeout=None),
        ) as completions,
    ):
        yield Connection(base_url=base_url, http=http, openai=completions)
