"""The two clients one server is spoken to with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from harness.reaching import NOTHING_SPECIAL, PLAIN, Access, unfit_to_read

if TYPE_CHECKING:
    import openai

_ASKING = ("/completions", "/generate")
"""How the paths of requests for tokens end."""

_NO_KEY = "none"
"""The OpenAI client insists on a key; a vLLM server without ``--api-key`` ignores it."""


@dataclass(kw_only=True)
class Asked:
    """How many requests for tokens were sent over a connection, as the server counts them."""

    number: int = 0

    async def count(self, request: httpx.Request) -> None:
        """Count ``request`` if it is one; to a server each of its ``n`` choices is a request."""
        if request.url.path.endswith(_ASKING):
            self.number += _choices(request)


def _choices(request: httpx.Request) -> int:
    asked = json.loads(request.content)
    wanted = asked.get("n") if isinstance(asked, dict) else None
    return wanted if isinstance(wanted, int) else 1


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A server's address and the open clients for it."""

    base_url: str
    http: httpx.AsyncClient
    openai: openai.AsyncOpenAI
    asked: Asked = field(default_factory=Asked)


@asynccontextmanager
async def connect(base_url: str, *, access: Access = NOTHING_SPECIAL) -> AsyncIterator[Connection]:
    """Open the clients for the server at ``base_url``: scheme, host, port and path, without ``/v1``.

    Neither client has a timeout of its own and neither retries; the callers' deadlines rule.  Every
    request has a connection of its own, and both show the server the same.
    """
    # Loading it takes longer than all the rest: who connects to no server does not wait for it.
    import openai

    base_url = base_url.rstrip("/")
    asked = Asked()
    async with (
        access.client(base_url, asked.count) as http,
        openai.AsyncOpenAI(
            base_url=f"{base_url}/v1",
            api_key=_NO_KEY,
            max_retries=0,
            timeout=None,
            default_headers={**PLAIN, **access.headers},
            http_client=openai.DefaultAsyncHttpxClient(
                verify=access.tls(),
                proxy=access.proxy(base_url),
                trust_env=False,
                follow_redirects=False,
                timeout=None,
                event_hooks={"request": [asked.count], "response": [_refuse_unfit]},
            ),
        ) as completions,
    ):
        yield Connection(base_url=base_url, http=http, openai=completions, asked=asked)


async def _refuse_unfit(response: httpx.Response) -> None:
    """What :class:`~harness.reaching.Bounded` does for the other client, as far as headers tell.

    The OpenAI client brings an HTTP library of its own, so that it cannot share the transport.
    """
    if complaint := unfit_to_read(response.headers):
        await response.aclose()
        raise httpx.RemoteProtocolError(complaint)
