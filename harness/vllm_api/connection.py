"""The two clients one server is spoken to with."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

import httpx
import openai

_OWN_CONNECTION = {"Connection": "close"}
"""A connection kept alive may be closed by the server just when it is used again, and nothing is retried."""

_ASKING = ("/completions", "/generate")
"""How the paths of requests for tokens end."""

_NO_KEY = "none"
"""The OpenAI client insists on a key; a vLLM server without ``--api-key`` ignores it."""


@dataclass(kw_only=True)
class Asked:
    """How many requests for tokens were sent over a connection."""

    number: int = 0

    async def count(self, request: httpx.Request) -> None:
        """Count ``request`` if it is one."""
        self.number += request.url.path.endswith(_ASKING)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A server's address and the open clients for it."""

    base_url: str
    http: httpx.AsyncClient
    openai: openai.AsyncOpenAI
    asked: Asked = field(default_factory=Asked)


@asynccontextmanager
async def connect(base_url: str, *, api_key: str | None = None) -> AsyncIterator[Connection]:
    """Open the clients for the server at ``base_url`` (scheme, host and port, without ``/v1``).

    Proxy settings of the environment are ignored: servers are on loopback or were named by the user.
    Neither client has a timeout of its own and neither retries; the callers' deadlines rule.  Every
    request has a connection of its own.
    """
    authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    base_url = base_url.rstrip("/")
    asked = Asked()
    async with (
        httpx.AsyncClient(
            base_url=base_url,
            headers={**_OWN_CONNECTION, **authorization},
            timeout=None,  # noqa: S113 - every call has its own deadline
            limits=httpx.Limits(max_connections=None),
            verify=_tls(),
            trust_env=False,
            event_hooks={"request": [asked.count]},
        ) as http,
        openai.AsyncOpenAI(
            base_url=f"{base_url}/v1",
            api_key=api_key or _NO_KEY,
            max_retries=0,
            timeout=None,
            default_headers=_OWN_CONNECTION,
            http_client=openai.DefaultAsyncHttpxClient(
                verify=_tls(), trust_env=False, timeout=None, event_hooks={"request": [asked.count]}
            ),
        ) as completions,
    ):
        yield Connection(base_url=base_url, http=http, openai=completions, asked=asked)


@cache
def _tls() -> ssl.SSLContext:
    """One context for all clients: reading the certificates takes longer than most calls."""
    return ssl.create_default_context()
